"""The log on disk: many processes write it, it is rotated meanwhile, and `logs` finds it again."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from datetime import UTC, datetime, timedelta
from functools import partial
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from config.logs import files, reading
from tests.eventually import eventually

ROOT = Path(__file__).resolve().parents[3]
PROCESSES, LINES = 6, 3_000
#: A process of the platform that writes lines as fast as it can, some of them long.
WRITER = """
import logging.config, sys
import structlog
from config.logging import logging_config
name, lines, limit, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
from pathlib import Path
config = logging_config(
    level="INFO", directory=Path(folder), json=True, limit_bytes=limit, generations=9
)
config["root"]["handlers"] = ["app"]
logging.config.dictConfig(config)
log = structlog.get_logger("writer")
sys.stdin.read(1)
for number in range(lines):
    long = number % 50 == 0
    log.info("line", subject=name, position=number, reason="x" * (5_000 if long else 60))
"""


def written(folder, *, limit, lines=LINES):
    """Let six processes write at once; return what each file holds, the newest first."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, f"w{n}", str(lines), str(limit), str(folder)],
            cwd=ROOT,
            env=os.environ | {"DJANGO_SETTINGS_MODULE": "config.settings.test"},
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for n in range(PROCESSES)
    ]
    for process in running:
        process.stdin.write(b".")
        process.stdin.flush()
    for process in running:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    names = ["app.log", *(f"app.log.{n}" for n in range(1, 10))]
    return [(folder / name).read_bytes() for name in names if (folder / name).exists()]


@pytest.mark.timeout(200)
def test_log__of_six_processes_loses_no_line_over_three_rotations(tmp_path):
    # About 5 MB in all.
    found = written(tmp_path, limit=1_200_000)
    assert len(found) - 1 >= 3, "fewer than three rotations: the test proves nothing"
    said = [json.loads(line) for text in found for line in text.splitlines()]
    lines = sorted((line["subject"], line["position"]) for line in said)
    assert lines == sorted((f"w{n}", k) for n in range(PROCESSES) for k in range(LINES))
    assert all(len(text) < 1_200_000 + PROCESSES * 6_000 for text in found)
    # Those of one process stand in the order in which it wrote them.
    one_by_one = (json.loads(line) for text in reversed(found) for line in text.splitlines())
    ours = [line["position"] for line in one_by_one if line["subject"] == "w3"]
    assert ours == sorted(ours)


@pytest.fixture
def handler(tmp_path):
    """A handler that is given lines by hand; its file is rotated at 200 bytes."""
    made = []

    def make(**options):
        given = {"limit_bytes": 200, "generations": 2} | options
        found = files.RotatedFile(str(tmp_path / "app.log"), **given)
        found.setFormatter(logging.Formatter("%(message)s"))
        made.append(found)
        return found

    yield make
    for one in made:
        one.close()


def say(handler, text):
    handler.emit(logging.LogRecord("x", logging.INFO, "", 0, text, (), None))


def content(folder):
    return {one.name: one.read_text() for one in folder.iterdir() if one.name[0] != "."}


def test_rotation__keeps_as_many_generations_as_it_is_told(handler, tmp_path):
    one = handler()
    for number in range(5):
        say(one, f"{number}" * 150)
    kept = {name: text[:1] for name, text in content(tmp_path).items()}
    assert kept == {"app.log": "4", "app.log.1": "3", "app.log.2": "2"}


def test_rotation__is_left_to_others_when_told_so(handler, tmp_path):
    one = handler(limit_bytes=0)
    say(one, "a" * 300)
    # What logrotate does: rename, and no signal to anybody.
    (tmp_path / "app.log").rename(tmp_path / "app.log-20261130")
    say(one, "b" * 300)
    assert content(tmp_path)["app.log"] == "b" * 300 + "\n"


def test_rotation__waits_for_nobody_who_holds_the_lock(handler, tmp_path):
    one = handler()
    say(one, "a" * 150)
    with files.locked(tmp_path / "app.log", wait=True):
        say(one, "b" * 150)
    assert set(content(tmp_path)) == {"app.log"}
    say(one, "c" * 150)
    assert content(tmp_path)["app.log"] == "c" * 150 + "\n"


def test_log__is_its_owners_and_a_groups_to_read(handler, tmp_path):
    say(handler(), "a")
    assert (tmp_path / "app.log").stat().st_mode & 0o137 == 0


def test_log__on_a_full_disk_costs_lines_and_nothing_else(handler, tmp_path, capsys, monkeypatch):
    one = handler(limit_bytes=0)
    say(one, "before")
    write = os.write
    # The kernel writes what still fits, and says how much that was.
    monkeypatch.setattr(os, "write", lambda target, data: write(target, data[:4]))
    say(one, "lost")
    say(one, "lost")
    monkeypatch.undo()
    say(one, "after")
    assert content(tmp_path)["app.log"].splitlines()[-1] == "after"
    assert capsys.readouterr().err.count("lines go missing") == 1


def test_log__is_written_again_after_somebody_has_removed_it(handler, tmp_path):
    one = handler()
    say(one, "a")
    (tmp_path / "app.log").unlink()
    say(one, "b")
    assert content(tmp_path) == {"app.log": "b\n"}


# --- reading it again -----------------------------------------------------------------------------
RUN, OTHER = uuid.uuid4(), uuid.uuid4()
NOW = datetime.now(UTC)


def line(event, *, ago=60.0, level="INFO", **fields):
    at = (NOW - timedelta(seconds=ago)).isoformat().replace("+00:00", "Z")
    return json.dumps({"timestamp": at, "level": level, "event": event, **fields})


@pytest.fixture
def log(tmp_path, settings):
    """A log over two generations, with a line that a full disk cut off."""
    settings.VAR_DIR = tmp_path
    folder = tmp_path / "log"
    folder.mkdir()
    ours = {"run_id": str(RUN), "correlation_id": "order-7", "worker": "worker1@here/7"}
    (folder / "app.log.1").write_text(
        "\n".join(
            [
                line("run_requested", ago=7200, process="manager", run_id=str(RUN)),
                line("step_retried", ago=7100, level="WARNING", step="fetch", step_id=9, **ours),
                '{"timestamp": "2026-',
                line("loop_active", ago=7000, process="manager", department="finance"),
                "",
            ]
        )
    )
    (folder / "app.log").write_text(
        "\n".join(
            [
                line("step_dead", ago=30, level="ERROR", step="fetch", step_id=9, **ours),
                line("step_dead", ago=20, level="ERROR", run_id=str(OTHER), process="worker2"),
                "",
            ]
        )
    )
    return folder


def shown(*arguments):
    out = StringIO()
    call_command("logs", *arguments, stdout=out)
    return out.getvalue().splitlines()


def events(*arguments):
    return [json.loads(one)["event"] for one in shown("--json", *arguments)]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--run", str(RUN)], ["run_requested", "step_retried", "step_dead"]),
        (["--run", RUN.hex], ["run_requested", "step_retried", "step_dead"]),
        (["--run", str(RUN), "--level", "error"], ["step_dead"]),
        (["--run", str(RUN), "-n", "1"], ["step_dead"]),
        (["--level", "WARN"], ["step_retried", "step_dead", "step_dead"]),
        (["--step", "fetch"], ["step_retried", "step_dead"]),
        (["--step", "9", "--since", "1h"], ["step_dead"]),
        (["--correlation-id", "order-7"], ["step_retried", "step_dead"]),
        (["--department", "finance"], ["loop_active"]),
        (["--process", "worker2"], ["step_dead"]),
        (["--process", "manager"], ["run_requested", "loop_active"]),
        (["--grep", "STEP_RETRIED"], ["step_retried"]),
        (["--until", "1h"], ["run_requested", "step_retried", "loop_active"]),
        (["--since", "2020-01-01", "--until", "2020-01-02"], []),
        (["--process", "worker"], ["step_dead"]),
        (["--process", "work"], []),
        (["--step", "None"], []),
        ([], ["run_requested", "step_retried", "loop_active", "step_dead", "step_dead"]),
    ],
)
def test_logs__shows_what_is_asked_for(log, arguments, found):
    assert events(*arguments) == found


def test_logs__find_a_text_as_it_is_meant(log):
    with (log / "app.log").open("a") as file:
        file.write(line("read", reason='the "Müller" account', correlation_id="Auftrag-ü") + "\n")
        file.write(line("read", process="worker12") + "\n")
    for text in ('"müller"', "MÜLLER", '"reason": "the', "M\\u00fcller"):
        assert events("--grep", text) == ["read"], text
    assert events("--correlation-id", "Auftrag-ü") == ["read"]
    assert events("--process", "worker1") == []


def test_logs__say_beside_that_there_is_no_such_line(log):
    out, beside = StringIO(), StringIO()
    call_command("logs", "--json", "--run", str(uuid.uuid4()), stdout=out, stderr=beside)
    assert out.getvalue() == ""
    assert "No such line in" in beside.getvalue()


def test_logs__bear_a_line_that_somebody_else_wrote(log):
    with (log / "app.log").open("a") as file:
        file.write('{"timestamp": "2026-11-30T08:00:00", "event": "odd", "level": 7}\n[1]\n{}\n')
    assert events("--since", "2026-11-30T07:59", "--until", "2026-11-30T08:01") == ["odd"]
    assert "odd" in "\n".join(shown())


def test_logs__obey_nothing_that_a_line_says(log):
    with (log / "app.log").open("a") as file:
        file.write(line("x", reason="a\x1b[2J\u202e", **{"na\x1bme": 1}) + "\n")
    (log / "redis.log").write_bytes(b"7:M # client \x1b]0;mine\x07\x9b2J\xc2\x9b\n")
    for words in ((), ("--json",), ("--file", "redis")):
        said = shown(*words)[-1]
        assert said.isprintable(), words
        assert "1b" in said, words


@contextlib.contextmanager
def somebody():
    """Act as a user without rights: root may read everything."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(54_321)
    try:
        yield
    finally:
        os.seteuid(was)


def test_logs__that_may_not_be_read_or_locked_are_told_in_one_line(settings):
    with tempfile.TemporaryDirectory() as name:
        settings.VAR_DIR = Path(name)
        folder = Path(name) / "log"
        folder.mkdir()
        (folder / "app.log").write_text(line("one") + "\n")
        (folder / "app.log").chmod(0)
        Path(name).chmod(0o755)
        for mode in (0o555, 0):
            folder.chmod(mode)
            with somebody(), pytest.raises(CommandError, match=r"app\.log may not be read by this"):
                shown()
        # Of a group that ships logs: it may read, and make no lock.
        folder.chmod(0o755)
        (folder / "app.log").chmod(0o644)
        folder.chmod(0o555)
        with somebody():
            assert events() == ["one"]
        folder.chmod(0o755)


def test_logs__are_for_people_unless_json_is_asked_for(log):
    first = shown("--run", str(RUN), "--level", "WARNING")[0]
    assert "WARNING" in first
    assert "step_retried" in first
    assert "worker=worker1@here/7" in first
    assert "{" not in first


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--run", "x"], ["'x'", "not the id of a run"]),
        (["--level", "loud"], ["--level", "WARNING"]),
        (["--since", "yesterday"], ["--since", "10m"]),
        (["--until", "999999d"], ["--until", "10m"]),
        (["--limit", "-1"], ["--limit"]),
        (["--file", "redis", "--level", "ERROR"], ["redis.log", "--level", "--grep"]),
        (["--file", "manager"], ["manager.log", "stdout"]),
    ],
)
def test_logs__refuses_in_one_line_with_the_remedy(log, arguments, words):
    with pytest.raises(CommandError) as caught:
        shown(*arguments)
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


def test_logs__of_redis_are_shown_as_they_are(log):
    (log / "redis.log").write_text("7:M 30 Nov 2026 * Ready\n7:M 30 Nov 2026 # Bad\n")
    assert shown("--file", "redis", "--grep", "bad") == ["7:M 30 Nov 2026 # Bad"]


def test_follow__goes_on_over_rotations_without_a_gap_or_a_double(tmp_path):
    path = tmp_path / "app.log"
    handler = files.RotatedFile(str(path), limit_bytes=500, generations=9)
    handler.setFormatter(logging.Formatter("%(message)s"))
    say(handler, line("past"))
    reader = reading.Reader(path, reading.Filter())
    assert [json.loads(one)["event"] for one in reader.last(limit=0)] == ["past"]
    coming = reader.follow()
    got = []
    for round_ in range(4):
        # Several rotations between two looks, and lines on both sides of each.
        for number in range(7):
            say(handler, line(f"{round_}.{number}"))
        got += [json.loads(next(coming))["event"] for _ in range(7)]
    handler.close()
    reader.close()
    assert len(list(tmp_path.glob("app.log.*"))) > 3
    assert got == [f"{round_}.{number}" for round_ in range(4) for number in range(7)]


def test_logs__runs_without_any_server_and_follows(log):
    """As people use it: a process of its own, no database, no Redis, until Ctrl-C."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in {"DATABASE_URL", "REDIS_URL", "DATABASE_OWNER_URL"}
    } | {"VAR_DIR": str(log.parent), "DJANGO_SETTINGS_MODULE": "config.settings.local"}
    out = (log.parent / "out").open("w+")
    with contextlib.closing(out):
        process = subprocess.Popen(
            [sys.executable, "manage.py", "logs", "--follow", "--json", "--level", "ERROR"],
            cwd=ROOT,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            # A shell lets what it starts in the background ignore Ctrl-C: tests too.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )
        try:
            said = log.parent / "out"
            eventually(lambda: said.read_text().count("step_dead") == 2, within=60)
            with (log / "app.log").open("a") as file:
                file.write(line("fine") + "\n" + line("broken", level="ERROR") + "\n")
            eventually(lambda: "broken" in said.read_text(), within=10)
            assert "fine" not in said.read_text()
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
            assert "Traceback" not in said.read_text()
        finally:
            process.kill()
            process.wait()
    assert not (log.parent / "run").exists(), "a server was started"
