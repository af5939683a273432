"""A real Alertmanager is given alerts: who is told of which, by the committed configuration.

No platform is needed for it; that the alerts come about is `test_alerts`' affair.
"""

from __future__ import annotations

import re
import subprocess

import httpx
import pytest
import yaml

from tests.acceptance.stack import TLS
from tests.eventually import eventually
from tests.system.observability.binaries import binary
from tests.system.observability.monitoring import end, free_port
from tests.system.observability.rendering import SOURCE
from tests.system.observability.test_rules import ALERTS

CONFIGURATION = SOURCE / "alertmanager" / "alertmanager.yml"
FIRST, SECOND = "127.0.0.1:8080", "127.0.0.1:8081"
#: What fires -> what of it people are told, each as (name, severity, other labels).
CASES = {
    "a manager is gone, another one is stuck": (
        [
            ("ManagerDown", "critical", {"instance": FIRST}),
            ("ManagerStuck", "critical", {"instance": SECOND}),
        ],
        {"ManagerDown", "ManagerStuck"},
    ),
    "a manager is gone, and no other one samples": (
        [("ManagerDown", "critical", {"instance": FIRST}), ("GaugesMissing", "critical", {})],
        {"ManagerDown", "GaugesMissing"},
    ),
    "a web is gone, another one fails": (
        [
            ("WebDown", "critical", {"instance": "127.0.0.1:8000"}),
            ("HighErrorRate", "critical", {}),
            ("HighErrorRate", "warning", {}),
        ],
        {"WebDown", "HighErrorRate"},
    ),
    "what follows from a lost database": (
        [
            ("DatabaseDown", "critical", {"dependency": "database"}),
            ("GaugesMissing", "critical", {}),
            ("ManagerStuck", "critical", {"instance": FIRST}),
            ("HighErrorRate", "critical", {}),
            ("BackupTooOld", "warning", {}),
            ("WebDown", "critical", {}),
        ],
        {"DatabaseDown", "BackupTooOld", "WebDown"},
    ),
    "the API fails, and Redis is lost too": (
        [
            ("RedisDown", "critical", {"dependency": "redis"}),
            ("GaugesMissing", "critical", {}),
            ("HighErrorRate", "critical", {}),
        ],
        {"RedisDown", "HighErrorRate"},
    ),
    "no workers on one queue, another one is deep": (
        [
            ("NoWorkers", "critical", {"queue": "finance"}),
            ("HighQueueDepth", "warning", {"queue": "finance"}),
            ("HighQueueDepth", "warning", {"queue": "sales"}),
        ],
        {"NoWorkers", "HighQueueDepth"},
    ),
    "a limit and a target that are not of the same thing": (
        [("HighErrorRate", "critical", {}), ("HighAPILatency", "warning", {})],
        {"HighErrorRate", "HighAPILatency"},
    ),
}


@pytest.fixture
def alertmanager(tmp_path):
    """A client of an Alertmanager that has heard nothing yet."""
    port = free_port()
    with (tmp_path / "alertmanager.log").open("wb") as output:
        process = subprocess.Popen(
            [
                binary("alertmanager"),
                f"--config.file={CONFIGURATION}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--cluster.listen-address=",
                f"--storage.path={tmp_path}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    address = f"http://127.0.0.1:{port}/api/v2/"
    with httpx.Client(base_url=address, timeout=10, verify=TLS) as client:
        try:
            eventually(lambda: answers(client), within=30, what=f"it answers; see {tmp_path}")
            yield client
        finally:
            end(process)


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("status").status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize(("fires", "told"), CASES.values(), ids=list(CASES))
def test_inhibitions__hide_what_follows_and_no_other_fault(alertmanager, fires, told):
    labels = [
        {"alertname": name, "severity": severity, **others} for name, severity, others in fires
    ]
    posted = [{"labels": one} for one in labels]
    assert alertmanager.post("alerts", json=posted).status_code == 200

    def heard(**which: bool) -> list[dict[str, str]]:
        found = alertmanager.get("alerts", params=which).raise_for_status().json()
        return [one["labels"] for one in found]

    eventually(lambda: len(heard()) == len(labels), within=10)
    assert {one["alertname"] for one in heard(inhibited=False)} == told
    for one in heard(inhibited=False):
        assert one != {"alertname": "HighErrorRate", "severity": "warning"}
        assert (one["alertname"], one.get("queue")) != ("HighQueueDepth", "finance")


def test_inhibitions__name_only_alerts_that_there_are():
    names = {rule["alert"] for rule in ALERTS}
    matchers = [
        matcher
        for rule in yaml.safe_load(CONFIGURATION.read_text())["inhibit_rules"]
        for matcher in (*rule["source_matchers"], *rule["target_matchers"])
        if matcher.startswith("alertname")
    ]
    assert len(matchers) >= 6
    for matcher in matchers:
        (told,) = re.findall(r'"([^"]+)"', matcher)
        assert set(told.split("|")) - names == set(), matcher
