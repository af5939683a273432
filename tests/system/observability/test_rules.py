"""The committed rules: valid, tested by promtool at their real durations, and linked to help."""

from __future__ import annotations

import re
import subprocess

import pytest
import yaml

from orchestration import metrics
from tests.acceptance.stack import ROOT
from tests.system.observability.binaries import binary
from tests.system.observability.rendering import SOURCE

PLACE = SOURCE / "prometheus"
ALERTS = [
    rule
    for group in yaml.safe_load((PLACE / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
#: Every threshold of the operations contract, by the alert that holds it.
WANTED = {
    *(("HighAPILatency", severity) for severity in ("warning", "critical")),
    *(("HighErrorRate", severity) for severity in ("warning", "critical")),
    *(("HighStreamLag", "warning"), ("HighQueueDepth", "warning"), ("BackupTooOld", "warning")),
    *(("DeadLettersGrowing", "warning"), ("HighRedisMemory", "warning")),
    *((name, "critical") for name in ("ManagerDown", "NoWorkers", "RunsStuck")),
    ("RedisEvictionPolicy", "critical"),
}


def run(*command: str) -> str:
    done = subprocess.run(
        command, cwd=PLACE, capture_output=True, text=True, check=False, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_configuration__is_valid():
    said = run(binary("promtool"), "check", "config", "prometheus.yml")
    assert f"{len(ALERTS)} rules found" in said


def test_alertmanager__is_valid():
    said = run(binary("amtool"), "check-config", "../alertmanager/alertmanager.yml")
    assert "SUCCESS" in said


@pytest.mark.slow
def test_alerts__fire_once_and_clear():
    assert "SUCCESS" in run(binary("promtool"), "test", "rules", "alerts_test.yml")


def test_alerts__hold_every_threshold_of_the_contract():
    assert {(rule["alert"], rule["labels"]["severity"]) for rule in ALERTS} >= WANTED


def test_alerts__are_each_tested_before_during_and_after():
    expected: dict[tuple[str, str], list[str]] = {}
    for test in yaml.safe_load((PLACE / "alerts_test.yml").read_text())["tests"]:
        quiet: dict[str, bool] = {}
        seen: dict[tuple[str, str], list[str]] = {}
        for check in test.get("alert_rule_test", []):
            name = check["alertname"]
            fired = [(name, one["exp_labels"]["severity"]) for one in check["exp_alerts"]]
            assert len(fired) == len(set(fired)), f"{name} fires more than once"
            for key in fired:
                seen.setdefault(key, ["quiet"] if quiet.get(name) else []).append("fires")
            if not fired:
                quiet[name] = True
                for key, story in seen.items():
                    if key[0] == name:
                        story.append("quiet")
        for key, story in seen.items():
            expected.setdefault(key, []).append(" ".join(story))
    for rule in ALERTS:
        stories = expected[rule["alert"], rule["labels"]["severity"]]
        assert any(story.startswith("quiet fires quiet") for story in stories), rule["alert"]


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_alert__says_what_to_do(rule):
    assert rule["labels"]["severity"] in {"warning", "critical"}
    said = rule["annotations"]
    assert ": " in said["summary"], "what is wrong: what to do"
    assert said["runbook_url"] == f"deploy/RUNBOOK.md#{rule['alert'].lower()}"


def test_alerts__lead_to_headings_of_the_runbook():
    text = (ROOT / "deploy" / "RUNBOOK.md").read_text()
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}
    anchors |= set(re.findall(r'<a (?:id|name)="([^"]+)"', text))
    assert {rule["alert"].lower() for rule in ALERTS} - anchors == set()


def test_mirrored_gauges__are_taken_from_the_manager_only():
    configuration = yaml.safe_load((PLACE / "prometheus.yml").read_text())
    (web,) = (job for job in configuration["scrape_configs"] if job["job_name"] == "web")
    (dropped,) = (rule["regex"] for rule in web["metric_relabel_configs"])
    for name in (*metrics.GAUGES, "manager_sample_age_seconds"):
        assert re.fullmatch(dropped, name), f"{name} would be scraped twice"
    for name in ("api_requests_total", "db_connection_pool", "process_open_fds"):
        assert not re.fullmatch(dropped, name)
