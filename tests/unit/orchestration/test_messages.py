from __future__ import annotations

import base64
import json

import pytest

from orchestration import messages
from orchestration.manager import reaper


def encoded(task: str, kwargs: object) -> bytes:
    body = base64.b64encode(json.dumps([[], kwargs, {}]).encode()).decode()
    return json.dumps({"headers": {"task": task}, "body": body}).encode()


def test_step_run_ids__of_an_execute_message():
    assert messages.step_run_ids(encoded(messages.EXECUTE, {"step_run_ids": [4, 5]})) == [4, 5]


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"headers": null}',
        encoded("another.task", {"step_run_ids": [1]}),
        encoded(messages.EXECUTE, {}),
        encoded(messages.EXECUTE, None),
        b'{"headers": {"task": "orchestration.execute"}, "body": "%%%"}',
    ],
)
def test_step_run_ids__anything_else_names_none(message):
    assert messages.step_run_ids(message) == []


def test_parse_hint__worker_and_steps():
    raw = json.dumps({"worker": "w@h/12", "step_run_ids": [1, 2], "at": 7.5}).encode()
    assert reaper.parse_hint(raw) == ("w@h/12", [1, 2], True, 7.5, "")


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b"\xff", b'{"worker": "w"}', b"null"])
def test_parse_hint__anything_else_is_no_hint(raw):
    assert reaper.parse_hint(raw) is None
