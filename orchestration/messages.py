"""What travels over the broker: task names and their keyword arguments, ids only."""

from __future__ import annotations

import base64
import binascii
import json
from typing import TypedDict

EXECUTE = "orchestration.execute"
NOTIFY_DEAD_LETTER = "orchestration.notify_dead_letter"


class Execute(TypedDict):
    """Try these StepRuns; every id may be unknown, taken or over by now."""

    step_run_ids: list[int]


class NotifyDeadLetter(TypedDict):
    """Tell people about this dead letter, once."""

    dead_letter_id: int


def step_run_ids(message: bytes) -> list[int]:
    """Return the StepRuns an encoded message in a queue's list names; [] for any other message."""
    try:
        envelope = json.loads(message)
        if envelope["headers"]["task"] != EXECUTE:
            return []
        _args, kwargs, _embed = json.loads(base64.b64decode(envelope["body"]))
        return [int(found) for found in kwargs["step_run_ids"]]
    except (ValueError, KeyError, TypeError, binascii.Error):
        return []
