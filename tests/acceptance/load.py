"""Callers of the API at a fixed rate: `python -m tests.acceptance.load URL RATE SECONDS`.

A process of its own, so that who asks does not wait for who measures. Every third call starts a
run, lists runs, or looks at the run started last. They are asked at fixed times whatever the
answers do, and counted from then: a slow answer does not spare the next one its waiting. The token
is read from TOKEN; printed is, as JSON, `{call: {"ms": [...], "statuses": {...}}}`.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from queue import SimpleQueue
from urllib.parse import urlsplit

CLIENTS = 16
BODY = json.dumps({"automation": "lab.squares", "input": {"count": 1}})
CALLS = ("POST /runs", "GET /runs", "GET /runs/{id}")


@dataclass
class Caller:
    """Sixteen clients that keep their connections, and what they have seen."""

    url: str
    token: str
    run: str = ""
    due: SimpleQueue[tuple[str, float] | None] = field(default_factory=SimpleQueue)
    ms: dict[str, list[float]] = field(default_factory=lambda: {call: [] for call in CALLS})
    statuses: dict[str, Counter[int]] = field(
        default_factory=lambda: {call: Counter() for call in CALLS}
    )

    def ask(self, *, rate: float, seconds: float) -> None:
        """Ask at the rate, each kind of call in turn, and wait for the last answer."""
        threads = [threading.Thread(target=self._serve) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        begun = time.monotonic()
        for number in range(int(rate * seconds)):
            moment = begun + number / rate
            time.sleep(max(0.0, moment - time.monotonic()))
            self.due.put((CALLS[number % len(CALLS)], moment))
        for _ in threads:
            self.due.put(None)
        for thread in threads:
            thread.join()

    def _serve(self) -> None:
        link = http.client.HTTPConnection(urlsplit(self.url).netloc)
        while (wanted := self.due.get()) is not None:
            call, moment = wanted
            status, answer = self._call(link, call)
            self.ms[call].append((time.monotonic() - moment) * 1000)
            self.statuses[call][status] += 1
            if call == "POST /runs" and status == http.client.CREATED:
                self.run = json.loads(answer)["id"]
        link.close()

    def _call(self, link: http.client.HTTPConnection, call: str) -> tuple[int, bytes]:
        method, _, path = call.partition(" ")
        link.request(
            method,
            path.replace("{id}", self.run),
            body=BODY if method == "POST" else None,
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        answer = link.getresponse()
        return answer.status, answer.read()


def main() -> None:
    """Ask and print."""
    url, rate, seconds = sys.argv[1:]
    caller = Caller(url=url, token=os.environ["TOKEN"])
    # One of each, so that there is a run to look at.
    caller.ask(rate=3, seconds=1)
    caller.ms = {call: [] for call in CALLS}
    caller.ask(rate=float(rate), seconds=float(seconds))
    print(
        json.dumps(
            {
                call: {"ms": caller.ms[call], "statuses": dict(caller.statuses[call])}
                for call in CALLS
            }
        )
    )


if __name__ == "__main__":
    main()
