"""`manage.py up` as people use it: a report, a clean end, and what a kill leaves behind."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import psycopg
import pytest

from config.embedded import servers
from config.stack import options
from tests.eventually import eventually

PROJECT = Path(__file__).resolve().parents[2]
MARK = "UP_UNDER_TEST"
READY_SECONDS = 100
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def shift():
    """A shift under which every port is free."""
    for number in range(1100, 6000, 100):
        ports = options.Ports(shift=number)
        wanted = [ports.web, ports.manager, ports.flower, ports.redis, ports.worker_metrics(0)]
        with contextlib.ExitStack() as held:
            try:
                for port in wanted:
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
        return number
    raise AssertionError("no free ports")


@pytest.fixture
def up(tmp_path, shift):
    """Start `up` in a folder of its own; nothing of it may live at the end."""
    started = []
    logs = []

    def start(*arguments):
        log = (tmp_path / f"up{len(started)}.log").open("w+b")
        logs.append(log)
        kept = {name: value for name, value in os.environ.items() if not name.endswith("_URL")}
        process = subprocess.Popen(
            [sys.executable, "manage.py", "up", "--ports", f"+{shift}", *arguments],
            cwd=PROJECT,
            env={
                **kept,
                "VAR_DIR": str(tmp_path / "var"),
                "DJANGO_SETTINGS_MODULE": "config.settings.local",
                MARK: str(tmp_path),
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        process.screen = Path(log.name)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(60)
    for log in logs:
        log.close()
    eventually(lambda: not marked(tmp_path), within=20, what="processes were left")


def marked(folder):
    """Return the processes that inherited the environment of an `up` of this folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            alive = process.status() != psutil.STATUS_ZOMBIE
            if alive and process.environ().get(MARK) == str(folder):
                found.append(process)
    return found


def shows(process, text):
    return text in process.screen.read_text()


def is_ready(process):
    assert process.poll() is None, process.screen.read_text()
    return shows(process, "ready in")


def run_states(var_dir):
    with (
        servers.session(var_dir=var_dir) as urls,
        psycopg.connect(urls.database_url) as link,
    ):
        return [state for (state,) in link.execute("SELECT state FROM engine_run").fetchall()]


def test_up_once__leaves_a_report_and_no_process(up, tmp_path):
    process = up("--once")
    assert process.wait(READY_SECONDS) == 0, process.screen.read_text()
    assert marked(tmp_path) == []
    (folder,) = (tmp_path / "var" / "reports").iterdir()
    assert "<html" in (folder / "report.html").read_text()[:500]
    assert (folder / "report.pdf").read_bytes().startswith(b"%PDF")
    assert "shown this once" in process.screen.read_text()


def test_up__serves_mends_itself_and_ends_on_ctrl_c(up, tmp_path, shift):
    first = up("--no-sample")
    eventually(lambda: is_ready(first), within=READY_SECONDS)
    web = f"http://127.0.0.1:{options.Ports(shift=shift).web}/livez"
    with urllib.request.urlopen(web, timeout=5) as answer:
        assert answer.status == 200

    second = up()
    assert second.wait(30) == 1
    said = second.screen.read_text()
    assert f"already running here (process {first.pid})" in said
    assert "Traceback" not in said

    # What dies is started again.
    record = tmp_path / "var" / "run" / "processes.json"
    before = {known["name"]: known["pid"] for known in json.loads(record.read_text())}
    os.kill(before["manager"], signal.SIGKILL)
    eventually(lambda: shows(first, "manager ended (SIGKILL), starting again"), within=10)

    def again():
        now = {known["name"]: known["pid"] for known in json.loads(record.read_text())}
        return now.get("manager", before["manager"]) != before["manager"]

    eventually(again, within=10)
    for name in ("postgres", "redis"):
        known = json.loads((tmp_path / "var" / "run" / f"{name}.json").read_text())
        for role in ("keeper", "server"):
            os.kill(known[role]["pid"], signal.SIGKILL)
    for title in ("PostgreSQL", "Redis"):
        eventually(lambda: shows(first, f"{title} was gone and has been"), within=20)  # noqa: B023

    first.send_signal(signal.SIGINT)
    assert first.wait(60) == 130
    assert marked(tmp_path) == []


def test_up__names_a_port_in_use_in_one_line(up, shift):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", options.Ports(shift=shift).web))
        holder.listen()
        process = up("--once")
        assert process.wait(30) == 1
    lines = [line for line in process.screen.read_text().splitlines() if line.strip()]
    web = options.Ports(shift=shift).web
    assert len(lines) == 2
    assert lines[1].startswith(f"error: port is already in use: {web} (web); stop what listens")


def test_up__finishes_what_a_kill_interrupted(up, tmp_path):
    first = up()
    record = tmp_path / "var" / "run" / "processes.json"
    eventually(record.exists, within=READY_SECONDS)
    first.kill()
    first.wait()
    second = up("--once")
    assert second.wait(150) == 0, second.screen.read_text()
    assert marked(tmp_path) == []
    assert set(run_states(tmp_path / "var")) == {"succeeded"}
