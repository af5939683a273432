"""`deploy/RUNBOOK.md`: every command in it is run, and what it says is to be seen is seen.

On an installation of its own: some of the commands stop, kill and lose things. Where a section is
about a fault, the fault is there while its commands are run; what the section tells to do ends it.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from contextlib import nullcontext

import httpx
import psutil
import pytest
from django.core.management import get_commands

from tests.acceptance import faults, runbook
from tests.acceptance.shell import Shell
from tests.acceptance.stack import ROOT, TLS, Stack
from tests.eventually import eventually

DOCUMENT = ROOT / "deploy" / "RUNBOOK.md"
TEXT = DOCUMENT.read_text()
SECTIONS = runbook.sections(TEXT)
RUN = [section for section in SECTIONS if section.blocks]
#: How long an installation may take to be well again after a section, in seconds.
WELL_SECONDS = 60

#: The chapters of the operations guide, in its order.
CHAPTERS = [
    "Daily Operations",
    "Security & Key Management",
    "Monitoring & Alerting",
    "Troubleshooting",
    "Recovery Procedures",
    "Performance Tuning",
    "Backup & Disaster Recovery",
    "Testing & Validation",
    "Emergency",
]
RULES = ROOT / "deploy" / "observability" / "prometheus" / "alerts.yml"
#: Each once, in their order; some have two limits.
ALERTS = list(dict.fromkeys(re.findall(r"- alert: (\w+)", RULES.read_text())))
#: Sections that are about a fault, and how it comes about.
FAULTS = {
    "highapilatency": lambda stack: faults.table_locked(stack, "engine_run", asked=True),
    "higherrorrate": faults.table_renamed,
    "webdown": lambda stack: faults.gone(stack, signal.SIGKILL, "web"),
    "managerdown": lambda stack: faults.gone(stack, signal.SIGKILL, "manager"),
    "managerstuck": lambda stack: faults.table_locked(stack, "departments_schedule", asked=False),
    "redisdown": lambda stack: faults.server_stopped(stack, "redis"),
    "databasedown": lambda stack: faults.server_stopped(stack, "postgres"),
    "highredismemory": faults.redis_nearly_full,
    "redisevictionpolicy": lambda stack: faults.redis_set(stack, "maxmemory-policy", "allkeys-lru"),
    "highstreamlag": faults.entries_taken,
    "highqueuedepth": faults.flooded,
    "noworkers": lambda stack: faults.gone(stack, signal.SIGTERM, "worker", "orchestrator"),
    "deadlettersgrowing": faults.dead_letters,
    "runsstuck": faults.run_stuck,
    "stuck-stream-recovery": faults.entries_taken,
}
#: What ends work or loses something: commands with it are marked, and no others.
DESTRUCTIVE = re.compile(
    r"FLUSH|DROP |pg_terminate_backend|XGROUP (DELCONSUMER|SETID)|runs cancel"
    r"|revoke_token|--drop-old|discard .*--apply|kill -(KILL|QUIT|INT)|kill .*up\.lock"
)
#: It only lets go on what is stopped.
HARMLESS = re.compile(r"kill -CONT[^\n]*")
#: Alerts that cannot be brought about, and why.
WITHOUT_FAULT = {
    "gaugesmissing": "comes of ManagerDown or ManagerStuck, whose faults are brought about",
    "backuptooold": "there are no backups yet",
}
#: Commands of machines with other means, which are not run, and why not.
ELSEWHERE: dict[str, str] = {
    "journalctl -u 'ai-business-engine*' --since -1h": "systemd starts no units here",
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """An installation of its own, and whatever the commands made of it ended."""
    found = Stack(tmp_path_factory.mktemp("runbook"), CANCEL_GRACE_SECONDS="1")
    found.start()
    yield found
    assert found.process is not None
    up = int((found.var / "run" / "up.lock").read_text())
    if found.process.poll() is None:
        found.stop(signal.SIGTERM)
    elif psutil.pid_exists(up):
        # The one that the commands started is nobody's child.
        os.kill(up, signal.SIGTERM)
        psutil.wait_procs([psutil.Process(up)], timeout=60)
    left = found.leftovers()
    for line in left:
        psutil.Process(int(line.partition(":")[0])).kill()
    assert left == []


@pytest.fixture(scope="module")
def shell(stack):
    """What an operator has opened: the checkout, with `var` in it, and the beginning typed."""
    checkout = stack.folder / "checkout"
    checkout.mkdir()
    for path in ROOT.iterdir():
        if path.name not in {"var", ".venv"}:
            (checkout / path.name).symlink_to(path)
    (checkout / "var").symlink_to(stack.var)
    (checkout / ".venv").symlink_to(sys.prefix)
    # Without what activating it is to bring.
    paths = os.environ["PATH"].split(":")
    path = ":".join(found for found in paths if not found.startswith(sys.prefix))
    found = Shell(checkout, {**stack.environment, "PATH": path}, scratch=stack.folder)
    try:
        for block in RUN[0].blocks:
            see(found, block)
        yield found
    finally:
        found.close()


def see(shell: Shell, block: runbook.Block) -> None:
    """Run the commands; fail unless that is seen which is to be seen, in the time that is said."""
    seen = ""

    def fits() -> bool:
        nonlocal seen
        seen = shell.run(block.commands)
        return not runbook.difference(block.shows, seen)

    try:
        eventually(fits, within=block.within)
    except AssertionError:
        missing = runbook.difference(block.shows, seen)
        where = f"{DOCUMENT.name}:{block.line}"
        raise AssertionError(f"{where}: {missing}\n{block.commands}\n---\n{seen}") from None


@pytest.mark.timeout(240)
@pytest.mark.parametrize("section", RUN[1:], ids=lambda section: section.anchor)
def test_runbook__shows_what_it_says(stack, shell, section):
    fault = FAULTS.get(section.anchor)
    with fault(stack) if fault else nullcontext(faults.nothing) as mend:
        mended = False
        for block in section.blocks:
            if block.part == runbook.PARTS[-1] and not mended:
                mend()
                mended = True
            see(shell, block)
    eventually(lambda: _is_well(stack), within=WELL_SECONDS, what=f"well after {section.title}")


def test_runbook__has_the_chapters_of_the_guide():
    assert [section.title for section in SECTIONS if section.level == runbook.CHAPTER_LEVEL] == [
        "Before you begin",
        *CHAPTERS,
    ]


def test_runbook__has_a_section_for_every_alert():
    found = {section.title: section for section in SECTIONS}
    assert {"HighAPILatency", "HighErrorRate", "ManagerDown"} <= set(ALERTS)
    assert [title for title in ALERTS if title not in found] == []
    for alert in ALERTS:
        assert found[alert].parts == list(runbook.PARTS), alert
        assert found[alert].anchor == alert.lower()
        ends = {block.part for block in found[alert].blocks}
        # Commands find the cause, and commands show that it is over.
        assert ends == set(runbook.PARTS[1:]), alert


def test_runbook__brings_about_what_its_sections_are_about():
    anchors = [section.anchor for section in SECTIONS]
    assert len(anchors) == len(set(anchors))
    assert set(FAULTS) <= set(anchors)
    assert {alert.lower() for alert in ALERTS} - set(FAULTS) == set(WITHOUT_FAULT)


def test_runbook__marks_what_is_destructive_and_nothing_else():
    blocks = [block for section in SECTIONS for block in section.blocks]
    marked = {block.line: block.destructive for block in blocks}
    assert marked == {
        block.line: bool(DESTRUCTIVE.search(HARMLESS.sub("", block.commands))) for block in blocks
    }


def test_runbook__runs_everything_but_what_is_known_to_need_another_machine():
    lines = [line for section in SECTIONS for line in section.elsewhere]
    assert sorted(lines) == sorted(ELSEWHERE)
    for line in lines:
        assert line.split()[0] in {"systemctl", "journalctl", "docker"}, line


def test_runbook__names_only_commands_targets_and_sections_that_there_are():
    commands = set(re.findall(r"manage\.py ([a-z_]+)", TEXT))
    assert commands - set(get_commands()) == set()
    targets = set(re.findall(r"`make ([a-z-]+)", TEXT))
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets - known == set()
    anchors = {section.anchor for section in SECTIONS}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) - anchors == set()
    files = {found for found in re.findall(r"\]\(([^)#]+)[^)]*\)", TEXT) if "://" not in found}
    assert [found for found in files if not (DOCUMENT.parent / found).exists()] == []


def _is_well(stack: Stack) -> bool:
    try:
        return httpx.get(f"{stack.url}/health", timeout=5, verify=TLS).status_code == 200
    except httpx.HTTPError:
        return False
