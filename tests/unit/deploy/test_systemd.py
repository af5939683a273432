"""The systemd units start what `manage.py up` starts, shut in, Flower behind its login."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from config.stack import options, services
from tests.acceptance.stack import ROOT

PLACE = ROOT / "deploy" / "systemd"
CHECKOUT = "/opt/ai-business-engine"
PYTHON = f"{CHECKOUT}/.venv/bin/python"
ALL_IN_ONE = "ai-business-engine.service"
COMMON = "ai-business-engine-.service.d/common.conf"
#: Of a process of `up` -> its unit.
UNITS = {
    "web": "ai-business-engine-web.service",
    "manager": "ai-business-engine-manager@.service",
    "orchestrator": "ai-business-engine-orchestrator.service",
    "worker0": "ai-business-engine-worker@.service",
    "flower": "ai-business-engine-flower.service",
}
PREPARE = "ai-business-engine-prepare.service"
SECRETS = {"FLOWER_BASIC_AUTH": "flower", "DATABASE_OWNER_URL": "owner"}

Settings = dict[str, list[str]]


def read(name: str) -> Settings:
    """Return the settings of a unit by name, each with all of its values in their order."""
    found: Settings = {}
    section = ""
    for line in (PLACE / name).read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            section = line
            assert section in {"[Unit]", "[Service]", "[Install]"}, line
            continue
        key, separator, value = line.partition("=")
        assert separator, f"{name}: {line}"
        assert section, f"{name}: {line}"
        found.setdefault(key, []).append(value)
    return found


def unit(name: str) -> Settings:
    """Return what holds for a unit: what all have in common, and its own."""
    found = {key: list(values) for key, values in read(COMMON).items()}
    for key, values in read(name).items():
        found.setdefault(key, []).extend(values)
    return found


def command(found: Settings, *, instance: str = "0") -> list[str]:
    """Return the command of a unit as systemd starts it."""
    (text,) = found["ExecStart"]
    words = shlex.split(text)
    assert words[0] == PYTHON, words[0]
    given = {"${WORKER_QUEUES}": "finance,life", "${WORKER_CONCURRENCY}": "2"}
    words = [given.get(word, word) for word in words[1:]]
    return [word.replace("%%", "\0").replace("%i", instance).replace("\0", "%") for word in words]


def started_by_up() -> dict[str, services.Service]:
    team = services.all_of(
        ports=options.Ports(),
        queues=["finance", "life"],
        workers=1,
        concurrency=2,
        flower_login="operator:s3cret",
    )
    return {service.name.replace("worker1", "worker0"): service for service in team}


@pytest.mark.parametrize("name", UNITS)
def test_unit__starts_what_up_starts(name):
    service, found = started_by_up()[name], unit(UNITS[name])
    # A worker's first instance is 0 here, as its port is; `up` counts from 1.
    wanted = [word.replace("worker1@", "worker0@") for word in service.command]
    assert wanted[0] == sys.executable
    if name == "manager":
        # The port follows from the instance.
        wanted = [word.replace("--port", "--instance").replace("8080", "0") for word in wanted]
    assert command(found) == wanted[1:]
    assert found.get("Nice", ["0"]) == [str(service.niceness)]
    (stop,) = found["TimeoutStopSec"]
    grace = float(service.environment.get("WORKER_GRACE_SECONDS", services.WEB_GRACE_SECONDS))
    assert int(stop) >= grace + options.GRACE_MARGIN_SECONDS
    assert found["Restart"] == ["always"]
    assert found["StartLimitIntervalSec"] == ["0"], "it would be given up after five attempts"


def test_units__are_all_processes_of_up():
    assert set(UNITS) == set(started_by_up())
    there = {path.name for path in PLACE.glob("*.service")}
    assert there == {*UNITS.values(), PREPARE, ALL_IN_ONE}


def test_worker__shows_its_metrics_at_the_port_of_its_instance():
    own = started_by_up()["worker0"].environment["WORKER_METRICS_PORT"]
    told = " ".join(unit(UNITS["worker0"])["Environment"]).replace("%i", "0").split()
    assert f"WORKER_METRICS_PORT={own}" in told


@pytest.mark.parametrize("name", [*UNITS.values(), PREPARE])
def test_unit__is_told_no_secret_of_another_one(name):
    files = {Path(path).name for path in unit(name)["EnvironmentFile"]}
    assert "environment" in files
    assert ("flower" in files) == (name == UNITS["flower"])
    assert ("owner" in files) == (name == PREPARE)
    # A `-` before the path would start Flower, or a migration, without it.
    assert all(path.startswith("/etc/") for path in unit(name)["EnvironmentFile"])
    assert not re.search("|".join(SECRETS), " ".join(unit(name)["ExecStart"]))


def test_prepare__comes_before_the_others():
    steps = [line.removeprefix(f"{PYTHON} manage.py ") for line in unit(PREPARE)["ExecStart"]]
    assert steps == ["migrate --no-input", "sync_catalog", "collectstatic --no-input"]
    for name in UNITS.values():
        assert PREPARE in unit(name)["After"]
        assert PREPARE in unit(name)["Wants"]


def test_all_in_one__is_up():
    found = read(ALL_IN_ONE)
    assert command(found) == ["manage.py", "up", "--no-sample"]
    grace = options.DEFAULT_GRACE_SECONDS + options.GRACE_MARGIN_SECONDS
    assert int(found["TimeoutStopSec"][0]) > grace + 60, "and then its servers end"
    # Both at once would be two of everything.
    assert found["Conflicts"] == ["ai-business-engine.target"]


@pytest.mark.parametrize("name", [COMMON, ALL_IN_ONE])
def test_unit__is_shut_in(name):
    found = read(name)
    assert found["User"] == ["ai-business-engine"]
    for setting in (
        *("NoNewPrivileges", "PrivateTmp", "PrivateDevices", "ProtectHome", "RestrictNamespaces"),
        *("ProtectKernelTunables", "ProtectControlGroups", "LockPersonality", "RestrictSUIDSGID"),
    ):
        assert found[setting] == ["yes"], setting
    assert found["ProtectSystem"] == ["strict"]
    assert found["CapabilityBoundingSet"] == [""]
    assert found["UMask"] == ["0077"]
    (state,) = found["StateDirectory"]
    assert f"VAR_DIR=/var/lib/{state}" in found["Environment"][0].split()


def test_units__are_what_systemd_takes(tmp_path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze on PATH: the units were read by this test's own eyes only")
    for path in PLACE.rglob("*"):
        if path.is_file():
            copy = tmp_path / path.relative_to(PLACE)
            copy.parent.mkdir(exist_ok=True)
            # systemd wants to see the program.
            copy.write_text(path.read_text().replace(PYTHON, sys.executable))
    names = [path.name.replace("@.", "@0.") for path in tmp_path.iterdir() if path.is_file()]
    for name in names:
        if "@0." in name:
            (tmp_path / name).write_text((tmp_path / name.replace("@0.", "@.")).read_text())
    done = subprocess.run(
        [analyze, "verify", "--man=no", *(str(tmp_path / name) for name in names)],
        env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    ours = [line for line in done.stderr.splitlines() if "ai-business-engine" in line]
    assert ours == []
    assert done.returncode == 0, done.stderr
