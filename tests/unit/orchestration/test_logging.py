from __future__ import annotations

import json
import logging
import logging.config

import pytest
import structlog

from config import logging as platform_logging


@pytest.fixture
def log_file(tmp_path):
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    config = platform_logging.logging_config(json=True, level="INFO", directory=tmp_path / "log")
    logging.config.dictConfig(config)
    yield tmp_path / "log" / "app.log"
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        handler.close()
    root.handlers, root.level = handlers, level


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_logging__one_json_line_with_the_bound_context(log_file):
    with structlog.contextvars.bound_contextvars(run_id="r1", step_id=7):
        structlog.get_logger("engine.x").warning("claim_lost", attempt=2)
    (line,) = lines(log_file)
    assert line["event"] == "claim_lost"
    assert line["level"] == "warning"
    assert (line["run_id"], line["step_id"], line["attempt"]) == ("r1", 7, 2)
    assert line["timestamp"].endswith("Z")


def test_logging__libraries_write_the_same_lines(log_file):
    logging.getLogger("celery.worker").error("lost %s", "broker")
    (line,) = lines(log_file)
    assert (line["event"], line["logger"]) == ("lost broker", "celery.worker")


def test_logging__an_exception_stays_on_its_line(log_file):
    try:
        int("no")
    except ValueError:
        structlog.get_logger("engine.x").exception("failed")
    (line,) = lines(log_file)
    assert "ValueError: invalid literal" in line["exception"]


def test_logging__never_a_secret_or_a_payload(log_file):
    structlog.get_logger("engine.x").warning("login", password="hunter2", input={"a": 1})
    assert "hunter2" not in log_file.read_text()
    assert lines(log_file)[0]["input"] == "[hidden]"


def test_logging__without_a_writable_folder_the_terminal_remains(tmp_path):
    (tmp_path / "file").write_text("")
    config = platform_logging.logging_config(
        json=False, level="INFO", directory=tmp_path / "file" / "log"
    )
    assert set(config["handlers"]) == {"terminal"}
