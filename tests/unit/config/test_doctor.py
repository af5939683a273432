"""What the routine makes of what it is told: counters, limits, looks that fail or hang."""

from __future__ import annotations

import io
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from config.doctor import api, routine
from config.doctor.checks import CHECKS, Measured
from config.doctor.routine import Line, Look
from config.management.commands import doctor
from tests.acceptance import runbook

ROOT = Path(__file__).resolve().parents[3]

SCRAPE = """\
# TYPE api_requests_total counter
api_requests_total{{method="GET",route="/runs",status="200"}} {good}
api_requests_total{{method="GET",route="/runs",status="404"}} 5
api_requests_total{{method="POST",route="/runs",status="500"}} {bad}
api_requests_total{{method="GET",route="/health",status="503"}} 1000
# TYPE api_request_latency_seconds histogram
api_request_latency_seconds_bucket{{method="GET",route="/runs",le="0.1"}} {fast}
api_request_latency_seconds_bucket{{method="GET",route="/runs",le="0.3"}} {middle}
api_request_latency_seconds_bucket{{method="GET",route="/runs",le="1.0"}} {slow}
api_request_latency_seconds_bucket{{method="GET",route="/runs",le="+Inf"}} {slow}
api_request_latency_seconds_bucket{{method="GET",route="/health",le="0.1"}} 0
api_request_latency_seconds_bucket{{method="GET",route="/health",le="+Inf"}} 1000
"""


def counted(*, good=95, bad=0, fast=90, middle=96, slow=100):
    text = SCRAPE.format(good=good, bad=bad, fast=fast, middle=middle, slow=slow)
    return api.parsed(text)


def judged(**changes):
    return api.judged(counted(**changes), "said")


def test_speed__is_within_its_limits():
    found = judged()
    assert found["api_latency"].ok
    # On the line between 90 requests at 100 ms and 96 at 300 ms the 95th lies at five sixths.
    assert found["api_latency"].number == pytest.approx(0.1 + 0.2 * 5 / 6, abs=1e-4)
    assert found["api_errors"].ok
    assert found["api_errors"].note == "5.0% refused (4xx), said"


def test_speed__over_300_ms_or_one_percent_of_server_errors():
    assert not judged(middle=91)["api_latency"].ok
    assert judged(good=995, bad=9)["api_errors"].ok
    assert not judged(good=900, bad=10)["api_errors"].ok


def test_latency__beyond_the_last_bound_is_that_bound():
    assert api.quantile({0.1: 0.0, 1.0: 1.0, float("inf"): 100.0}, 0.95) == 1.0


def test_speed__without_a_request_says_so():
    found = api.judged(api.Counts(), "")
    assert {one.value for one in found.values()} == {"no requests"}
    assert all(one.ok for one in found.values())


def test_speed__of_this_moment_hides_nothing_behind_a_good_week():
    before = counted(good=1_000_000, fast=1_000_000, middle=1_000_000, slow=1_000_000)
    now = counted(good=1_000_010, bad=20, fast=1_000_000, middle=1_000_000, slow=1_000_030)
    lately = now.since(before)
    assert lately.requests == 30
    found = api.judged(lately, "")
    assert not found["api_latency"].ok
    assert not found["api_errors"].ok
    # Over the whole time nothing of it is seen.
    assert api.judged(now, "")["api_errors"].ok


class Answer(BaseHTTPRequestHandler):
    """Say what the test asks for."""

    said = b""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.said)

    def log_message(self, *_args):
        """Say nothing."""


@pytest.fixture
def web():
    """A server at this machine; returns its address."""
    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_health__of_a_machine_behind_a_proxy_is_asked_directly(web, monkeypatch):
    monkeypatch.setattr(Answer, "said", b'{"status": "healthy"}')
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert api.health(web)["web"].ok


@pytest.mark.parametrize("said", [b"<html>Grafana</html>", b"[]", b'"healthy"', b"{}", b"\xff"])
def test_health__of_something_else_is_told_in_words(web, monkeypatch, said):
    monkeypatch.setattr(Answer, "said", said)
    (line,) = routine.run([Look(lambda: api.health(web), ("web",))])
    assert line.found.note == f"what answers at {web} is not this platform's web"


def test_doctor__obeys_nothing_that_it_is_told():
    out = io.StringIO()
    command = doctor.Command(stdout=out)
    command._show([Line(CHECKS["web"], Measured("a\x1b[2J", ok=False, note="b\x9b2J\nforged"))])
    assert out.getvalue().replace("\n", "").isprintable()
    assert "\nforged" not in out.getvalue()


def test_doctor__colours_what_is_to_be_seen_and_no_more():
    class Screen(io.StringIO):
        def isatty(self):
            return True

    command = doctor.Command(stdout=Screen(), force_color=True)
    good = Line(CHECKS["web"], Measured("healthy", ok=True))
    command._show([good, Line(CHECKS["redis"], Measured("away", ok=False))])
    fine, bad, *_ = command.stdout.getvalue().splitlines()
    green, red = "\x1b[32m", "\x1b[1;31m"
    assert fine.startswith(f"{green}✓ \x1b[0m{CHECKS['web'].title}")
    assert bad.startswith(f"{red}✗ ")
    assert f"{red}away" in bad
    assert "\x1b[36mdeploy/RUNBOOK.md#redisdown" in bad


def test_counts__after_a_restart_of_web_begin_anew():
    assert counted(good=10).since(counted(good=95)) is None


def test_routine__says_of_each_look_that_fails_or_hangs_why():
    never = threading.Event()

    def fails():
        raise ConnectionError("redis://:hunter2-hunter2@127.0.0.1:1 is away\nand more")

    def hangs():
        never.wait(30)
        return {}

    began = time.monotonic()
    lines = routine.run(
        [
            Look(lambda: {"web": Measured("healthy", ok=True)}, ("web",)),
            Look(fails, ("redis", "stream_lag")),
            Look(hangs, ("database",)),
        ],
        patience_seconds=0.5,
    )
    assert time.monotonic() - began < 5
    never.set()
    found = {line.check.name: line.found for line in lines}
    assert [line.check.name for line in lines] == ["web", "database", "redis", "stream_lag"]
    assert found["web"].ok
    assert not found["database"].ok
    assert found["database"].note == "nothing came within 0.5 s"
    assert not found["stream_lag"].ok
    assert found["redis"].note == "redis://:[hidden]@127.0.0.1:1 is away"


def test_checks__lead_to_sections_that_the_runbook_has():
    path, _, _ = CHECKS["web"].runbook.partition("#")
    there = {section.anchor for section in runbook.sections((ROOT / path).read_text())}
    wanted = {check.runbook.partition("#")[2] for check in CHECKS.values()}
    assert len(wanted) > 10
    assert wanted - there == set()


def test_checks__lead_to_the_alert_of_the_same_limit():
    assert CHECKS["api_latency"].runbook == "deploy/RUNBOOK.md#highapilatency"
    assert CHECKS["api_latency"].limit == "< 300 ms"
    assert CHECKS["recent_runs"].runbook == "deploy/RUNBOOK.md#runs"
    assert all(check.limit for check in CHECKS.values())
    assert {"stream_lag", "queue_depth", "manager", "api_errors", "backup"} <= set(CHECKS)
