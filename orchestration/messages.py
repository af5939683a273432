"""What travels over the broker: task names, their keyword arguments (ids only), and the envelope."""

from __future__ import annotations

import base64
import binascii
import json
import os
import socket
import uuid
from typing import Any

EXECUTE = "orchestration.execute"
NOTIFY_DEAD_LETTER = "orchestration.notify_dead_letter"

#: `repr` of the arguments in Celery's headers: nobody reads it.
NO_REPR = "-"
_HOST = socket.gethostname()
_EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def encode(task: str, kwargs: dict[str, Any], *, queue: str) -> str:
    """Return a message of Celery's protocol 2 in kombu's envelope for Redis, ready to be pushed.

    The order of keys and every value are Celery's own; a test compares them at each upgrade.
    """
    task_id = str(uuid.uuid4())
    body = json.dumps([[], kwargs, _EMBED]).encode()
    return json.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {
                "lang": "py",
                "task": task,
                "id": task_id,
                "shadow": None,
                "eta": None,
                "expires": None,
                "group": None,
                "group_index": None,
                "retries": 0,
                "timelimit": [None, None],
                "root_id": task_id,
                "parent_id": None,
                "argsrepr": NO_REPR,
                "kwargsrepr": NO_REPR,
                "origin": f"gen{os.getpid()}@{_HOST}",
                "ignore_result": True,
                "replaced_task_nesting": 0,
                "stamped_headers": None,
                "stamps": {},
            },
            "properties": {
                "correlation_id": task_id,
                # There is no result backend to reply to.
                "reply_to": "",
                "argsrepr": NO_REPR,
                "kwargsrepr": NO_REPR,
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": queue},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": task_id,
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
