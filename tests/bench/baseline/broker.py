"""Plain Celery at its best: what both baselines are configured with. The reasons: `README.md`."""

from __future__ import annotations

from typing import Any

from kombu import Queue

from tests.bench import work


def configuration(name: str) -> dict[str, Any]:
    """Return the settings of a baseline's application."""
    return {
        "broker_url": work.url_of(name),
        "broker_transport_options": {
            "ack_emulation": False,
            "priority_steps": [0],
        },
        "broker_connection_retry_on_startup": True,
        "result_backend": None,
        "task_ignore_result": True,
        "task_track_started": False,
        "task_acks_late": False,
        "task_send_sent_event": False,
        "worker_send_task_events": False,
        "worker_prefetch_multiplier": 16,
        "worker_disable_rate_limits": True,
        "worker_enable_remote_control": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_queues": [Queue(name)],
        "task_default_queue": name,
        "timezone": "UTC",
        "enable_utc": True,
    }
