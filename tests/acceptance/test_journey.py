"""A script that knows the generated client alone works with the running platform."""

from __future__ import annotations

import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
from pypdf import PdfReader

ROOT = Path(__file__).resolve().parents[2]
LEDGER = ROOT / "departments" / "catalog" / "finance" / "sample_ledger.csv"
PASSWORD = "a long pass phrase of the journey"
PEOPLE = """
from django.contrib.auth.models import User
User.objects.create_user("olga", password="{password}")
"""


@pytest.mark.timeout(300)
def test_journey__from_signing_in_to_the_report(stack, tmp_path):
    generated = tmp_path / "python"
    tool = Path(sys.executable).parent / "openapi-python-client"
    done = subprocess.run(
        [
            *(str(tool), "generate", "--path", "clients/openapi.json", "--fail-on-warning"),
            *("--config", "clients/python.yml", "--output-path", str(generated)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    stack.manage("shell", "-c", PEOPLE.format(password=PASSWORD))
    stack.manage("roles", "grant", "olga", "operator", "--department", "finance")
    stack.submit("lab.squares", count=1)
    told = subprocess.run(
        [
            sys.executable,
            str(Path(__file__).with_name("journey.py")),
            stack.url,
            "olga",
            str(LEDGER),
            str(tmp_path),
        ],
        env=os.environ | {"PASSWORD": PASSWORD, "PYTHONPATH": str(generated)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert told.stdout.splitlines() == [
        "signed in as olga",
        "can run ['finance.cashflow_report']",
        "started finance.cashflow_report",
        "followed snapshot to end",
        "progress 100.0 %",
        "downloaded report.pdf",
        "refused everything else",
    ]
    report = PdfReader(BytesIO((tmp_path / "report.pdf").read_bytes()))
    assert "Journey" in report.pages[0].extract_text()
