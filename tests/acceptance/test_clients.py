"""What `make clients` generates can be used: the types compile, the Python client imports."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(300)
def test_clients__are_generated_and_tried_by_one_command(tmp_path):
    if shutil.which("npm") is None and not os.environ.get("CI"):
        pytest.skip("npm is not on PATH: the TypeScript types were not tried")
    done = subprocess.run(
        ["make", "clients", f"CLIENTS={tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "interface components" in (tmp_path / "typescript" / "api.d.ts").read_text()
    program = "from ai_business_engine_client.api.runs import start_run; print(start_run.__name__)"
    imported = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path / "python",
        capture_output=True,
        text=True,
        check=True,
    )
    assert imported.stdout.strip() == "ai_business_engine_client.api.runs.start_run"


@pytest.mark.timeout(300)
def test_clients__a_program_that_breaks_the_types_does_not_compile(tmp_path):
    if shutil.which("npm") is None and not os.environ.get("CI"):
        pytest.skip("npm is not on PATH: the TypeScript types were not tried")
    wrong = tmp_path / "clients"
    shutil.copytree(ROOT / "clients" / "typescript", wrong, ignore=shutil.ignore_patterns("node_*"))
    shutil.copy(ROOT / "clients" / "openapi.json", wrong)
    smoke = wrong / "smoke.ts"
    smoke.write_text(smoke.read_text().replace('state: "failed"', 'state: "lost"'))
    for words in (["ci", "--no-audit", "--no-fund"], ["run", "generate"]):
        subprocess.run(["npm", *words], cwd=wrong, capture_output=True, check=True)
    done = subprocess.run(
        ["npm", "run", "check"], cwd=wrong, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert '"lost"' in done.stdout
