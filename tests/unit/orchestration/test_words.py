"""What others put into our keys of Redis must not stop a loop that reads them."""

from __future__ import annotations

import json

import pytest

from orchestration import presence
from orchestration.manager import reaper

WORD = {
    "pid": 1, "queues": ["lab"], "concurrency": 2, "uptime": 1.0, "at": 5.0, "leaving": False,
}  # fmt: skip
ODD = [b"", b"5", b"[]", b"null", b"{}", b"\xff", b'"text"']


@pytest.mark.parametrize("raw", [*ODD, *(
    json.dumps(WORD | {name: float("inf")}).encode() for name in ("pid", "concurrency", "busy")
)])  # fmt: skip
def test_word__that_makes_no_sense_is_none(raw):
    assert presence.parse("w@host", json.dumps(WORD).encode()) is not None
    assert presence.parse("w@host", raw) is None


@pytest.mark.parametrize("raw", [*ODD, b'{"worker": "w", "step_run_ids": [Infinity]}'])
def test_hint__that_makes_no_sense_is_none(raw):
    assert reaper.parse_hint(raw) is None
