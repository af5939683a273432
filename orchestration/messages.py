"""What travels over the broker: task names, keyword arguments (ids only), and the envelope."""

from __future__ import annotations

import base64
import binascii
import json
import os
import socket
import uuid
from functools import lru_cache
from typing import Any

EXECUTE = "orchestration.execute"
NOTIFY_DEAD_LETTER = "orchestration.notify_dead_letter"

#: `repr` of the arguments in Celery's headers: nobody reads it.
NO_REPR = "-"
#: Marks in the template; no name of a task or queue contains them.
_ID, _BODY = "<id>", "<body>"
_HOST = socket.gethostname()
_EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def encode(task: str, kwargs: dict[str, Any], *, queue: str) -> str:
    """Return a message of Celery's protocol 2 in kombu's envelope for Redis, ready to be pushed.

    The order of keys and every value are Celery's own; a test compares them at each upgrade.
    """
    body = json.dumps([[], kwargs, _EMBED]).encode()
    return (
        _template(task, queue, os.getpid())
        .replace(_ID, str(uuid.uuid4()))
        .replace(_BODY, base64.b64encode(body).decode())
    )


@lru_cache(maxsize=256)
def _template(task: str, queue: str, pid: int) -> str:
    """Return the envelope with marks where id and body go: all else is the same each time."""
    return json.dumps(
        {
            "body": _BODY,
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {
                "lang": "py",
                "task": task,
                "id": _ID,
                "shadow": None,
                "eta": None,
                "expires": None,
                "group": None,
                "group_index": None,
                "retries": 0,
                "timelimit": [None, None],
                "root_id": _ID,
                "parent_id": None,
                "argsrepr": NO_REPR,
                "kwargsrepr": NO_REPR,
                "origin": f"gen{pid}@{_HOST}",
                "ignore_result": True,
                "replaced_task_nesting": 0,
                "stamped_headers": None,
                "stamps": {},
            },
            "properties": {
                "correlation_id": _ID,
                # There is no result backend to reply to.
                "reply_to": "",
                "argsrepr": NO_REPR,
                "kwargsrepr": NO_REPR,
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": queue},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": _ID,
            },
        }
    )


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
