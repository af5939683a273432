"""Throw-away folders for embedded servers, and what tells whether anything of them still runs."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.eventually import eventually

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture
def var_dir(tmp_path):
    """A folder whose servers must be gone at the end, whatever the test did."""
    folder = tmp_path / "var"
    yield folder
    eventually(lambda: not alive_in(folder), within=20, what=f"servers of {folder} still run")


@pytest.fixture
def script():
    """Start Python code in a process of its own; its output is read line by line."""
    started = []

    def start(code, *arguments, **environment):
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", code, *map(str, arguments)],
            cwd=PROJECT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def alive_in(folder):
    """Return the processes that name the folder on their command line or work in it."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and (
                str(folder) in " ".join(process.cmdline()) or str(folder) in process.cwd()
            ):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found
