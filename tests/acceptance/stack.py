"""The whole platform as a user starts it: free ports, throw-away data, the lab's steps."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psutil
import psycopg
import redis

from tests.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 90
LEASE_SECONDS = 3
LEDGER = (
    "CREATE TABLE IF NOT EXISTS lab_ledger (run_id uuid, step text, map_index int,"
    " PRIMARY KEY (run_id, step, map_index))"
)
#: How each process is known by its command line.
PROCESSES = {
    "web": "uvicorn",
    "manager": "manage.py manager",
    "orchestrator": "-n orchestrator@",
    "worker": "-n worker1@",
    "worker2": "-n worker2@",
    "flower": "flower",
}
HEADERS = {"Content-Type": "application/json"}
#: Made once: httpx reads the list of authorities for each request otherwise.
TLS = ssl.create_default_context()


def free_shift() -> int:
    """Return a shift of the ports at which all of them are free."""
    for shift in range(2000 + os.getpid() % 997, 30000, 211):
        try:
            for port in (8000, 8080, 8090, 5555, 6379):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port + shift))
        except OSError:
            continue
        return shift
    raise AssertionError("no free ports")


class Stack:
    """`manage.py up` in a folder, and the ways in which a test looks at it and hurts it."""

    def __init__(self, folder: Path, *, options: Sequence[str] = (), **environment: str) -> None:
        self.folder = folder
        self.options = options
        self.var = folder / "var"
        self.shift = free_shift()
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if name
            not in {"DATABASE_URL", "DATABASE_OWNER_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE"}
        } | {
            "VAR_DIR": str(self.var),
            "LEASE_SECONDS": str(LEASE_SECONDS),
            "CATALOG_PACKAGES": "tests.catalog",
            "NO_COLOR": "1",
            **environment,
        }
        self.output = folder / "up.log"
        self.process: subprocess.Popen[bytes] | None = None

    # --- life -------------------------------------------------------------------------------
    def start(self) -> None:
        """Start it and wait until every process is there and the workers are known."""
        ports = ("--ports", f"+{self.shift}")
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "up", "--no-sample", *ports, *self.options],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        eventually(self.is_ready, within=START_SECONDS, what=f"ready; see {self.output}")
        settings = dict(re.findall(r"^export (\w+)=(.*)$", self.manage("env"), flags=re.MULTILINE))
        # Tests make tables of their own; the processes sign in as the application.
        self.database_url = shlex.split(settings["DATABASE_OWNER_URL"])[0]
        self.application_url = shlex.split(settings["DATABASE_URL"])[0]
        self.redis_url = shlex.split(settings["REDIS_URL"])[0]
        self.execute(LEDGER)
        scopes = "runs.read,runs.write,dead_letters.read,dead_letters.write,departments.write"
        self.token = self.manage("mint_jwt", "--scopes", scopes).strip()

    def is_ready(self) -> bool:
        """Tell whether web says healthy: database, Redis, manager, a worker on every queue."""
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"up ended:\n{self.output.read_text()[-3000:]}")
        try:
            return httpx.get(f"{self.url}/health", timeout=5, verify=TLS).status_code == 200
        except httpx.HTTPError:
            return False

    def answers(self) -> bool:
        """Tell whether web answers at all."""
        try:
            return httpx.get(f"{self.url}/livez", timeout=5, verify=TLS).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self, how: signal.Signals = signal.SIGINT, within: float = 60) -> int:
        """Ask it to end; return the exit code."""
        assert self.process is not None
        self.process.send_signal(how)
        return self.process.wait(timeout=within)

    @property
    def url(self) -> str:
        """Return where web listens."""
        return f"http://127.0.0.1:{8000 + self.shift}"

    # --- looking ----------------------------------------------------------------------------
    def manage(self, *words: str, check: bool = True) -> str:
        """Run a command of this installation and return what it printed."""
        done = subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def rows(self, statement: str, *values) -> list[tuple]:
        """Ask the database."""
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(statement, values).fetchall()

    def execute(self, statement: str, *values) -> None:
        """Tell the database."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(statement, values)

    def redis(self) -> redis.Redis:
        """Return a client of this installation's Redis."""
        return redis.Redis.from_url(self.redis_url, decode_responses=True)

    def call(self, method: str, path: str, **body) -> httpx.Response:
        """Call the API."""
        headers = HEADERS | {"Authorization": f"Bearer {self.token}"}
        return httpx.request(
            method, self.url + path, headers=headers, json=body or None, timeout=30, verify=TLS
        )

    def submit(self, automation: str, **values) -> str:
        """Start a run by the API and return its id."""
        answer = self.call("POST", "/runs", automation=automation, input=values)
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    def state(self, run_id: str) -> str:
        """Return the state of a run."""
        return self.rows("SELECT state FROM engine_run WHERE id = %s", run_id)[0][0]

    def reaches(self, run_id: str, *states: str, within: float = 60) -> str:
        """Wait until the run is in one of these states, through any outage of the database."""

        def reached() -> str:
            try:
                found = self.state(run_id)
            except psycopg.OperationalError:
                return ""
            return found if found in states else ""

        return eventually(reached, within=within, what=f"run {run_id} {states}; see {self.output}")

    def count(self, run_id: str, state: str, key: str) -> int:
        """Return how many StepRuns of a key are in a state, planners left out."""
        statement = (
            "SELECT count(*) FROM engine_steprun"
            " WHERE run_id = %s AND state = %s AND key = %s AND kind = 'step'"
        )
        return self.rows(statement, run_id, state, key)[0][0]

    def ledger(self, run_id: str) -> int:
        """Return how many effects a run has committed; its key refuses doubled ones."""
        return self.rows("SELECT count(*) FROM lab_ledger WHERE run_id = %s", run_id)[0][0]

    # --- hurting ----------------------------------------------------------------------------
    def find(self, name: str) -> psutil.Process:
        """Return a process of this installation: a child of up, or one of its two servers."""
        assert self.process is not None
        if name == "up":
            return psutil.Process(self.process.pid)
        if name == "postgres":
            return psutil.Process(
                int((self.var / "postgres" / "postmaster.pid").read_text().split()[0])
            )
        if name == "redis":
            return psutil.Process(self.redis().info("server")["process_id"])
        for child in psutil.Process(self.process.pid).children(recursive=True):
            words = " ".join(child.cmdline())
            if PROCESSES[name] in words:
                return child
        raise AssertionError(f"no {name} among the children of up")

    def pool(self, name: str) -> list[psutil.Process]:
        """Return the processes in which a worker runs its steps: its exporter is none of them."""
        found = []
        for child in self.find(name).children():
            # One that was killed has no words any more while its parent has not looked.
            with contextlib.suppress(psutil.NoSuchProcess):
                if "celery" in child.cmdline():
                    found.append(child)
        return found

    def kill(self, name: str) -> None:
        """End one process as the kernel would: at once, without a word."""
        self.find(name).kill()

    def leftovers(self) -> list[str]:
        """Return the processes that still belong to this installation."""
        found = []
        for process in psutil.process_iter():
            try:
                theirs = process.environ().get("VAR_DIR") == str(self.var)
                words = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if theirs or str(self.var) in words:
                found.append(f"{process.pid}: {words}")
        return found
