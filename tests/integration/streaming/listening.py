"""A client of a stream, as one with nothing but HTTP would write it."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from dataclasses import dataclass
from typing import Any

import httpx

from tests.eventually import eventually


@dataclass(frozen=True)
class Event:
    name: str
    id: int | None
    data: Any


class Listener:
    """Read a stream in a thread; `events` grows."""

    def __init__(self, web, path, *, last_event_id=None, headers=None) -> None:
        self.events: list[Event] = []
        self.comments: list[str] = []
        self.is_over = False
        self.last_event_id = last_event_id
        given = {**(headers or web.headers()), "Accept": "text/event-stream"}
        if last_event_id is not None:
            given["Last-Event-ID"] = str(last_event_id)
        self.client = httpx.Client(timeout=httpx.Timeout(30, read=60))
        self._context = self.client.stream("GET", web.url + path, headers=given)
        self.response = self._context.__enter__()
        self.status = self.response.status_code
        if self.status != 200:
            self.response.read()
            return
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        name, number, data = "", None, []
        try:
            for line in self.response.iter_lines():
                field, _, value = line.partition(": ")
                if not line:
                    if data:
                        self.events.append(Event(name, number, json.loads("".join(data))))
                    name, number, data = "", None, []
                elif line.startswith(":"):
                    self.comments.append(line)
                elif field == "event":
                    name = value
                elif field == "id":
                    number = self.last_event_id = int(value)
                elif field == "data":
                    data.append(value)
        except (httpx.HTTPError, httpx.StreamError, OSError):
            pass
        self.is_over = True

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.events]

    @property
    def told(self) -> list[int]:
        """Return the ids of what was told, snapshots left out."""
        return [event.id for event in self.events if "kind" in event.data]

    def hears(self, *names, within=15) -> Event:
        """Wait for an event of one of these names."""
        return eventually(
            lambda: next((e for e in self.events if e.name in names), None),
            within=within,
            what=f"{names} among {self.names[-10:]}",
        )

    def ends(self, within=15) -> None:
        eventually(lambda: self.is_over, within=within, what="the stream's end")

    def close(self) -> None:
        """Hang up: what the thread waits for ends with the connection."""
        if self.status == 200 and not self.is_over:
            stream = self.response.extensions["network_stream"]
            with contextlib.suppress(OSError):
                stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
            self._thread.join(10)
        self._context.__exit__(None, None, None)
        self.client.close()
