"""The running API against its own description: schemathesis, every check, authenticated."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.access import scopes
from tests.acceptance.stack import Stack

ROOT = Path(__file__).resolve().parents[2]
#: How long to look for a fault; five minutes once before a release.
FUZZ_SECONDS = int(os.environ.get("FUZZ_SECONDS", "60"))
#: What no schema can say: whether an automation of this name exists, which of two cursors is meant,
#: whether a moment lies ahead, whether an address may be called, how long a file is. There a
#: request that fits the schema may be refused; every other check stays.
CONFIGURATION = """
[[operations]]
include-operation-id = [
    "startRun", "listRuns", "changeRun", "createWebhook", "changeWebhook", "createHook",
    "changeHook", "downloadArtifact",
]
checks.positive_data_acceptance.enabled = false

[parameters]
run_id = "{run}"
dead_letter_id = {letter}
artifact_id = "{artifact}"
slug = "lab"
name = "lab.squares"
"""
#: Streams do not end by themselves (tests/integration/streaming reads them); and whoever is told to
#: revoke tokens would revoke the one that asks with.
LEFT_OUT = "/stream$|/auth/revoke$"


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    stack = Stack(tmp_path_factory.mktemp("contract"), THROTTLE_RATES="")
    stack.start()
    yield stack
    stack.stop()


@pytest.fixture(scope="module")
def there(stack, tmp_path_factory):
    """The ids of a run that goes on, of a dead letter and of a file."""
    tmp_path = tmp_path_factory.mktemp("there")
    (tmp_path / "bank.csv").write_text("date;amount\n2026-01-01;1\n")
    letter = stack.submit("lab.fragile", folder=str(tmp_path))
    stack.reaches(letter, "blocked")
    stack.manage(
        "runs", "start", "finance.cashflow_report", "--file", f"ledger={tmp_path}/bank.csv"
    )
    return {
        "run": stack.submit("lab.patient", folder=str(tmp_path)),
        "letter": stack.rows("SELECT id FROM engine_deadletter")[0][0],
        "artifact": stack.rows("SELECT id FROM engine_artifact")[0][0],
    }


@pytest.mark.timeout(FUZZ_SECONDS + 300)
@pytest.mark.parametrize("addresses", ["at random", "that exist"])
def test_api__keeps_what_its_description_says(stack, there, tmp_path, addresses):
    token = stack.manage("mint_jwt", "--scopes", ",".join(scopes.WILDCARDS)).strip()
    configuration = CONFIGURATION.format(**there)
    if addresses == "at random":
        configuration = configuration.partition("[parameters]")[0]
    (tmp_path / "schemathesis.toml").write_text(configuration)
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "schemathesis"),
            *("run", f"{stack.url}/openapi.json", "--url", stack.url),
            *("--header", f"Authorization: Bearer {token}"),
            *("--phases", "examples,coverage,fuzzing,stateful"),
            *("--max-time", str(FUZZ_SECONDS // 2), "--continue-on-failure"),
            *("--exclude-path-regex", LEFT_OUT),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout[-1500:])
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
