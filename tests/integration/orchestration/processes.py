"""Real processes on the test's database and Redis: how to start them and what they say."""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import psutil

from engine.models import Run

ROOT = Path(__file__).resolve().parents[3]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def manager(started, *, instance: int = 0, **changes: str):
    port = free_port()
    process = started(
        "manage.py", "manager", "--port", str(port), "--instance", str(instance), **changes
    )
    process.port = port
    return process


def worker(
    started, *, queues: str = "lab,orchestrator,dead_letter", name: str = "w", **changes: str
):
    return started(
        "-m", "celery", "-A", "config", "worker", "-Q", queues, "-n", f"{name}@%h", "-c", "2",
        "--without-gossip", "--without-mingle", "-Ofair", **changes,
    )  # fmt: skip


def is_alive(process: psutil.Process) -> bool:
    """Tell whether a process still does anything; a zombie waits for whoever reads its end."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def page(process, path: str = "/health") -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{process.port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read().decode()
    except OSError:
        return 0, ""


def loops(process) -> set[str]:
    code, text = page(process)
    return {found["state"] for found in json.loads(text)["loops"].values()} if code else set()


def is_working(process) -> bool:
    return loops(process) == {"working"}


def state(run_id) -> str:
    return Run.objects.values_list("state", flat=True).get(pk=run_id)


def folder(tmp_path: Path) -> str:
    path = tmp_path / "steps"
    path.mkdir(exist_ok=True)
    return str(path)


def end(processes) -> None:
    """End these processes and what they started, by their ids."""
    alive = [process for process in processes if process.poll() is None]
    children = [it for one in alive for it in psutil.Process(one.pid).children(recursive=True)]
    for process in alive:
        process.terminate()
    for process in alive:
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
    for child in children:
        if child.is_running():
            child.kill()
