"""The supervisor with toy children: restarts, output, drain, and what a kill leaves."""

import contextlib
import json
import os
import signal
import subprocess
import time

import psutil
import pytest

from config.embedded import processes
from config.stack import orphans
from tests.eventually import eventually

TOY = """
import json, pathlib, sys
from config.stack import supervisor
from config.stack.children import Service
record, grace, *children = sys.argv[1:]
boss = supervisor.Supervisor(
    say=lambda name, line: print(f"{name}|{line}"),
    record=pathlib.Path(record),
    log_dir=pathlib.Path(record).parent,
    grace_seconds=float(grace),
)
for number, code in enumerate(children):
    boss.start(Service(name=f"toy{number}", command=(sys.executable, "-u", "-c", code)))
boss.run()
obeyed = boss.stop()
print(f"up|obeyed={obeyed}")
sys.exit(supervisor.exit_code(boss.asked_to_stop))
"""
SAY_PID = "import os, signal, subprocess, sys, time; print(os.getpid())\n"
SLEEP = SAY_PID + "time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SLEEP
PARENT = SAY_PID + (
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    "print(child.pid); time.sleep(60)"
)


@pytest.fixture
def toy(script, tmp_path):
    def start(*children, grace=10):
        return script(TOY, tmp_path / "processes.json", grace, *children)

    return start


def said(boss, name="toy0"):
    """Return the next line of a child."""
    for line in boss.stdout:
        who, _, text = line.rstrip("\n").partition("|")
        if who == name:
            return text
    raise AssertionError(f"{name} said nothing more")


def gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_supervisor__stops_its_children_when_asked(toy, number, code):
    boss = toy(SLEEP)
    pid = int(said(boss))
    boss.send_signal(number)
    assert boss.wait(10) == code
    assert gone(pid)


def test_supervisor__starts_a_dead_child_again_and_waits_longer_each_time(toy):
    boss = toy(SAY_PID + "sys.exit(3)")
    first = said(boss)
    assert said(boss, "up") == "toy0 ended (exit code 3), starting again in 0.5 s"
    assert said(boss) != first
    assert said(boss, "up").endswith("starting again in 1 s")


def test_supervisor__ends_what_a_dead_child_had_started(toy):
    boss = toy(PARENT)
    parent, grandchild = int(said(boss)), int(said(boss))
    os.kill(parent, signal.SIGKILL)
    eventually(lambda: gone(grandchild), within=10)
    assert said(boss, "up").startswith("toy0 ended (SIGKILL)")


def test_supervisor__lets_a_child_finish_within_the_grace(toy):
    boss = toy(
        SAY_PID + "def end(*_): time.sleep(0.5); print('finished'); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end); print('set'); time.sleep(60)"
    )
    said(boss), said(boss)
    boss.terminate()
    assert said(boss) == "finished"
    assert said(boss, "up") == "obeyed=True"


def test_supervisor__ends_a_stubborn_child_after_the_grace(toy):
    boss = toy(STUBBORN, grace=0.5)
    pid = int(said(boss))
    boss.terminate()
    assert said(boss, "up") == "toy0 did not stop in time and was ended"
    assert said(boss, "up") == "obeyed=False"
    assert gone(pid)


def test_supervisor__a_second_signal_hurries(toy):
    boss = toy(STUBBORN, grace=60)
    pid = int(said(boss))
    began = time.monotonic()
    boss.send_signal(signal.SIGINT)
    # Both at once would count as one: the second must come while the first is being served.
    eventually(lambda: psutil.Process(boss.pid).num_ctx_switches().voluntary > 3, within=5)
    while boss.poll() is None and time.monotonic() - began < 20:
        boss.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            boss.wait(0.2)
    assert boss.returncode == 130
    assert gone(pid)
    assert time.monotonic() - began < 20


def test_supervisor__shows_a_long_unfinished_line(toy):
    boss = toy("print('x' * 40000, end='')")
    assert sum(len(said(boss)) for _ in range(2)) >= 16384


def test_supervisor__children_end_when_it_is_killed(toy):
    boss = toy(SLEEP)
    pid = int(said(boss))
    boss.kill()
    eventually(lambda: gone(pid), within=10)


def test_orphans__end_what_outlived_a_killed_supervisor(toy, tmp_path):
    boss = toy(STUBBORN, PARENT)
    # The two children speak in any order.
    lines = sorted(boss.stdout.readline().strip() for _ in range(3))
    stubborn = int(lines[0].partition("|")[2])
    parent, grandchild = sorted(int(line.partition("|")[2]) for line in lines[1:])
    boss.kill()
    boss.wait()
    # The kernel ended toy1; its child is found by the session it was in.
    eventually(lambda: gone(parent), within=10)
    assert not gone(stubborn)
    assert not gone(grandchild)
    orphans.end(tmp_path / "processes.json", grace_seconds=0.5)
    assert gone(stubborn)
    assert gone(grandchild)
    assert not (tmp_path / "processes.json").exists()


def test_orphans__leave_a_stranger_with_a_recycled_pid_alone(script, tmp_path):
    stranger = script("import os, time; os.setsid(); print('up'); time.sleep(60)")
    stranger.stdout.readline()
    identity = processes.identify(stranger.pid) | {"name": "web"}
    identity["started"] -= 100
    record = tmp_path / "processes.json"
    record.write_text(json.dumps([identity]))
    orphans.end(record, grace_seconds=0.5)
    assert stranger.poll() is None


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"pid": "x"}]'])
def test_orphans__survive_a_damaged_record(tmp_path, text):
    record = tmp_path / "processes.json"
    record.write_text(text)
    assert orphans.end(record, grace_seconds=0.1) == []
