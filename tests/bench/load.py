"""The API's clients, in a process of their own: `python -m tests.bench.load steady|single …`.

`steady` asks at fixed times whatever the answers do, and counts from the time at which it meant to
ask: a slow answer does not spare the next one its waiting. `single` asks for one run at a time and
looks at the run's row every half millisecond until it has ended.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import threading
import time
from queue import SimpleQueue
from urllib.parse import urlsplit

import psycopg

CLIENTS = 16
LOOK_SECONDS = 0.0005
PAUSE_SECONDS = 0.02
PATIENCE_SECONDS = 30.0
CREATED = 201
BODY = json.dumps({"automation": "floor.single", "input": {}})
ENDED = "SELECT state IN ('succeeded', 'failed', 'cancelled', 'timed_out') FROM engine_run"


class Client:
    """A client that keeps its connection."""

    def __init__(self) -> None:
        self._link = http.client.HTTPConnection(urlsplit(os.environ["BENCH_URL"]).netloc)
        token = os.environ["BENCH_TOKEN"]
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def post(self) -> tuple[int, bytes]:
        """Ask for a run; return status and body."""
        self._link.request("POST", "/runs", body=BODY, headers=self._headers)
        answer = self._link.getresponse()
        return answer.status, answer.read()


def steady(*, rate: float, seconds: float) -> dict:
    """Ask `rate` times a second; return the milliseconds to each answer and what was refused."""
    due: SimpleQueue[float | None] = SimpleQueue()
    found: list[float] = []
    refused: list[int] = []

    def serve() -> None:
        client = Client()
        while (moment := due.get()) is not None:
            status, _ = client.post()
            found.append((time.monotonic() - moment) * 1000)
            if status != CREATED:
                refused.append(status)

    threads = [threading.Thread(target=serve) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    begun = time.monotonic()
    for number in range(int(rate * seconds)):
        moment = begun + number / rate
        time.sleep(max(0.0, moment - time.monotonic()))
        due.put(moment)
    for _ in threads:
        due.put(None)
    for thread in threads:
        thread.join()
    return {"samples_ms": found, "refused": refused}


def single(*, runs: int) -> dict:
    """Ask for one run after the other; return the milliseconds until each had ended."""
    client = Client()
    found: list[float] = []
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as database:
        for _ in range(runs):
            begun = time.monotonic()
            status, body = client.post()
            if status != CREATED:
                return {"samples_ms": found, "refused": [status]}
            run_id = json.loads(body)["id"]
            while not _ended(database, run_id):
                if time.monotonic() - begun > PATIENCE_SECONDS:
                    raise TimeoutError(f"run {run_id} has not ended")
                time.sleep(LOOK_SECONDS)
            found.append((time.monotonic() - begun) * 1000)
            time.sleep(PAUSE_SECONDS)
    return {"samples_ms": found, "refused": []}


def _ended(database: psycopg.Connection, run_id: str) -> bool:
    row = database.execute(f"{ENDED} WHERE id = %s", [run_id], prepare=True).fetchone()
    return bool(row and row[0])


def main() -> None:
    """Parse, ask, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.load", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    of_steady = kinds.add_parser("steady")
    of_steady.add_argument("--rate", type=float, required=True)
    of_steady.add_argument("--seconds", type=float, required=True)
    of_single = kinds.add_parser("single")
    of_single.add_argument("--runs", type=int, required=True)
    options = vars(parser.parse_args())
    kind = {"steady": steady, "single": single}[options.pop("kind")]
    print(json.dumps(kind(**options)))


if __name__ == "__main__":
    main()
