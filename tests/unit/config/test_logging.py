from __future__ import annotations

import io
import json
import logging
import logging.config
import re
import time

import pytest
import structlog

from config import logging as platform_logging
from config.logs import identity, redaction
from engine.errors import StepError

#: What the operations guide greps in app.log.
GUIDE = re.compile(r"(ERROR|WARN|CRITICAL)")


@pytest.fixture
def configured(tmp_path):
    """Configure logging into a folder; returns a function that takes the options."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def configure(**options):
        given = {"json": True, "level": "INFO", "directory": tmp_path / "log"} | options
        logging.config.dictConfig(platform_logging.logging_config(**given))
        return tmp_path / "log" / "app.log"

    yield configure
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        handler.close()
    root.handlers, root.level = handlers, level
    platform_logging.configure(names=redaction.shown_names(more=[]))


@pytest.fixture
def log_file(configured):
    return configured()


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_logging__one_json_line_with_the_bound_context(log_file):
    with structlog.contextvars.bound_contextvars(run_id="r1", step_id=7):
        structlog.get_logger("engine.x").warning("claim_lost", attempt=2)
    (line,) = lines(log_file)
    assert line["event"] == "claim_lost"
    assert (line["run_id"], line["step_id"], line["attempt"]) == ("r1", 7, 2)
    assert line["timestamp"].endswith("Z")
    assert list(line)[:3] == ["timestamp", "level", "event"]


@pytest.mark.parametrize("level", ["warning", "error", "critical"])
def test_logging__the_guides_grep_finds_what_is_bad_and_nothing_else(log_file, level):
    getattr(structlog.get_logger("engine.x"), level)("bad")
    getattr(logging.getLogger("celery.worker"), level)("bad as well")
    structlog.get_logger("engine.x").info("good")
    found = [line for line in log_file.read_text().splitlines() if GUIDE.search(line)]
    assert len(found) == 2
    assert {json.loads(line)["level"] for line in found} == {level.upper()}


def test_logging__libraries_write_the_same_lines(log_file):
    logging.getLogger("celery.worker").error("lost %s", "broker", extra={"data": {"args": [1]}})
    (line,) = lines(log_file)
    assert (line["event"], line["logger"]) == ("lost broker", "celery.worker")
    assert "data" not in line


def test_logging__the_servers_own_handlers_are_taken_off(configured):
    server = logging.getLogger("uvicorn.error")
    server.addHandler(logging.StreamHandler(io.StringIO()))
    server.propagate = False
    path = configured()
    server.error("Exception in ASGI application")
    assert lines(path)[0]["event"] == "Exception in ASGI application"
    assert server.handlers == []


def test_logging__no_client_logs_the_addresses_it_calls(log_file):
    address = "https://hooks.example.org/services/T0/very-secret"
    logging.getLogger("httpx").info("HTTP Request: POST %s", address)
    assert not log_file.exists() or "very-secret" not in log_file.read_text()


def test_logging__every_line_says_which_process_wrote_it(log_file, monkeypatch):
    monkeypatch.setattr(identity._Self, "process", "")
    monkeypatch.setattr(identity._Self, "hostname", "")
    monkeypatch.setattr("sys.argv", ["manage.py", "purge_runs", "--apply"])
    structlog.get_logger("engine.x").warning("one")
    identity.serve("worker1@here")
    structlog.get_logger("engine.x").warning("two")
    command, worker = lines(log_file)
    assert command["process"] == "purge_runs"
    assert "worker" not in command
    assert worker["process"] == "worker1"
    assert worker["worker"] == f"worker1@here/{worker['pid']}"


@pytest.mark.parametrize(
    ("command", "process"),
    [
        ("/app/manage.py manager --port 8080", "manager"),
        ("/venv/lib/uvicorn/__main__.py config.asgi:application", "web"),
        ("/venv/bin/uvicorn config.asgi:application", "web"),
        ("/venv/lib/celery/__main__.py -q -A config worker -Q finance", "worker"),
        ("/venv/bin/celery -A config flower", "flower"),
        ("/venv/bin/pytest tests", "pytest"),
    ],
)
def test_process__is_known_by_its_command_line(command, process):
    assert identity.process_of(command.split()) == process


def test_request_id__is_the_correlation_id_of_its_lines(log_file):
    with structlog.contextvars.bound_contextvars(request_id="order-7"):
        structlog.get_logger("engine.x").warning("one")
    assert lines(log_file)[0]["correlation_id"] == "order-7"


def test_manager__has_a_file_of_its_own_beside(configured, tmp_path):
    app = configured(process="manager")
    structlog.get_logger("orchestration").info("loop_active", loop="timers")
    assert lines(app) == lines(tmp_path / "log" / "manager.log")
    assert lines(app)[0]["loop"] == "timers"


def test_stdout__is_for_people_on_a_terminal_and_json_elsewhere(configured):
    class Screen(io.StringIO):
        def isatty(self):
            return True

    configured(json=None)
    handler = next(
        one for one in logging.getLogger().handlers if isinstance(one, platform_logging.Terminal)
    )
    for stream in (Screen(), io.StringIO()):
        handler.setStream(stream)
        structlog.get_logger("engine.x").warning("claim_lost", attempt=2)
        text = stream.getvalue()
        if stream.isatty():
            assert "WARNING" in text
            assert "claim_lost" in text
            assert "{" not in text
        else:
            assert json.loads(text)["attempt"] == 2


def test_logging__without_a_writable_folder_the_terminal_remains(tmp_path):
    (tmp_path / "file").write_text("")
    config = platform_logging.logging_config(level="INFO", directory=tmp_path / "file" / "log")
    assert set(config["handlers"]) == {"terminal"}


# --- what is shown ------------------------------------------------------------------------------
def test_fields__nobody_listed_are_hidden(log_file):
    log = structlog.get_logger("step")
    log.warning("read", rows=12, customer="Ann", amount=3.5, input={"a": 1}, password="hunter2")
    (line,) = lines(log_file)
    assert line["rows"] == 12
    for name in ("customer", "amount", "input", "password"):
        assert line[name] == "[hidden]"


def test_fields__of_an_installation_are_shown_when_it_lists_them(configured):
    path = configured(more_fields=["ledgers"])
    structlog.get_logger("step").warning("read", ledgers=3, customer="Ann")
    assert (lines(path)[0]["ledgers"], lines(path)[0]["customer"]) == (3, "[hidden]")


def test_fields__that_are_shown_hold_no_mapping(log_file):
    structlog.get_logger("step").warning("read", reason={"iban": "DE02"}, keys=["a", {"b": 1}])
    (line,) = lines(log_file)
    assert (line["reason"], line["keys"]) == ("[hidden]", ["a", "[hidden]"])


SECRETS = [
    "redis://:hunter2-hunter2@127.0.0.1:6379/0",
    "postgresql://engine:hunter2-hunter2@db/engine",
    "Authorization: Bearer hunter2-hunter2",
    "eyJhbGciOiJIUzI1NiJ9.hunter2-hunter2.hunter2-hunter2",
    "password=hunter2-hunter2",
    "{'api_key': 'hunter2-hunter2'}",
    "GET /hooks/hunter2-hunter2 refused",
    "whsec_hunter2/hunter2+hunter2=",
    "JWT_SECRET: hunter2-hunter2",
    "SECRET_KEY='hunter2-hunter2'",
    "accessToken=hunter2-hunter2",
    "aws_secret_access_key = hunter2-hunter2",
    "Cookie: csrftoken=hunter2-hunter2; sessionid=hunter2-hunter2",
]


@pytest.mark.parametrize("text", SECRETS)
def test_credentials__are_taken_out_of_every_text(log_file, text):
    structlog.get_logger("engine.x").warning(text, reason=text)
    logging.getLogger("library").error("failed: %s", text)
    said = log_file.read_text()
    assert "hunter2" not in said
    assert said.count("[hidden]") >= 3


@pytest.mark.parametrize("text", ["eyJ-", "a.", "a_", "password ", "x://", "x://y:", "eyJa."])
def test_credentials__are_looked_for_in_time(text):
    """Whoever may have a long text logged must not hold up the process that logs it."""
    began = time.process_time()
    redaction.scrubbed(text * (100_000 // len(text)))
    assert time.process_time() - began < 1.0


def test_credentials__of_this_process_are_known(log_file, monkeypatch):
    monkeypatch.setattr(redaction, "_known", set())
    logging.getLogger("library").error("the key is %s", "a-key-of-ours-0123456789")
    assert "0123456789" in log_file.read_text()
    redaction.learn("a-key-of-ours-0123456789", "")
    logging.getLogger("library").error("the key is %s!", "a-key-of-ours-0123456789")
    assert lines(log_file)[1]["event"] == "the key is [hidden]!"


def test_addresses__lose_their_queries_in_the_lines_of_servers(log_file):
    logging.getLogger("django.request").error("Internal Server Error: /runs?q=Ann+Smith")
    assert lines(log_file)[0]["event"] == "Internal Server Error: /runs"


def test_texts__are_bounded(log_file):
    structlog.get_logger("engine.x").warning("x", reason="y" * 100_000)
    assert len(log_file.read_text()) < 3_000


def test_terminal__obeys_no_character_of_a_value(configured):
    configured(json=False)
    handler = logging.getLogger().handlers[0]
    handler.setStream(io.StringIO())
    structlog.get_logger("engine.x").warning("x", reason="a\x1b[2Jb\n2026 ERROR forged")
    text = handler.stream.getvalue()
    assert text.count("\n") == 1
    assert "\x1b" not in text


# --- errors -------------------------------------------------------------------------------------
def failed(log_file, error):
    try:
        raise error
    except type(error):
        structlog.get_logger("engine.x").exception("failed")
    return lines(log_file)[-1]["exception"]


def test_exception__stays_on_its_line_with_its_places(log_file):
    text = failed(log_file, IndexError("list index out of range"))
    place, kind = text.splitlines()
    assert re.fullmatch(r"  \S+/test_logging\.py:\d+ in failed", place)
    assert kind == "IndexError: list index out of range"


def test_exception__says_nothing_that_may_be_a_payload(log_file):
    for error in (ValueError("DE02 1203"), KeyError("Ann Smith"), AssertionError("Ann Smith")):
        text = failed(log_file, error)
        assert type(error).__name__ in text
        assert "LOG_ERROR_TEXT=1" in text
        assert "Ann" not in text
        assert "DE02" not in text


def test_exception__is_not_repeated_by_the_message_of_a_library(configured):
    """Celery: "Task execute[…] raised unexpected: ValueError('…')"."""
    log_file = configured()
    try:
        try:
            {}["IBAN of Ann Smith"]
        except KeyError:
            int("DE02\n1203")
    except ValueError as exc:
        log = logging.getLogger("celery.worker")
        log.exception("Task raised unexpected: %r", exc)  # noqa: TRY401 - as libraries do
        log.exception("%s, caused by %s", exc, exc.__context__)  # noqa: TRY401 - same
    found = lines(log_file)
    for line in found:
        said = json.dumps(line)
        assert "DE02" not in said
        assert "Ann" not in said
        assert "ValueError" in line["exception"]
    hidden = redaction.TEXT_HIDDEN
    assert found[0]["event"] == f"Task raised unexpected: ValueError: {hidden}"
    assert found[1]["event"] == f"{hidden}, caused by {hidden}"


def test_exception__raised_on_purpose_says_what_it_says(log_file):
    assert "The bank is shut." in failed(log_file, StepError("shut", "The bank is shut."))


def test_exception__names_its_causes_first(log_file):
    try:
        try:
            int("DE02")
        except ValueError as exc:
            raise StepError("unreadable", "Row 7 is no number.") from exc
    except StepError:
        structlog.get_logger("engine.x").exception("failed")
    text = lines(log_file)[0]["exception"]
    assert text.index("ValueError") < text.index("was the cause of") < text.index("Row 7")
    assert "DE02" not in text


def test_exception__of_a_group_names_its_members(log_file):
    text = failed(log_file, ExceptionGroup("two", [ValueError("Ann"), OSError(2, "No file")]))
    assert "ValueError" in text
    assert "No file" in text
    assert "Ann" not in text


def test_exception__is_shown_whole_where_steps_are_written(configured):
    path = configured(error_texts=True)
    text = failed(path, ValueError("DE02 1203"))
    assert "ValueError: DE02 1203" in text
    assert "raise error" in text
