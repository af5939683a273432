"""The Celery application: one for web, manager, worker and Flower (`celery -A config …`).

A message is a hint ("try these StepRuns"); PostgreSQL holds the truth. So everything here that
trades safety of a message for speed is right, and everything that would store state in the broker
is off. Each value has its reason beside it; the measurements are in `orchestration/README.md`.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from celery import Celery, signals
from kombu import Queue

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")
# `celery -A config flower` imports this module first, then reads its options from that file.
os.environ.setdefault("FLOWER_CONF", str(Path(__file__).with_name("flower_rules.py")))

from django.conf import settings

from config.environment import without_query
from config.logs import identity
from engine import registry, tracing
from engine.postgresql import bounded
from orchestration import canary, children, garbage, routing, worker
from orchestration.alarm import alarm
from orchestration.worker_metrics import MetricsStep, worker_metrics

if TYPE_CHECKING:
    from collections.abc import Iterator


#: How long a child that ends waits for its last spans to be taken, in seconds.
LAST_SPANS_SECONDS = 0.5


class DeclaredQueues:
    """The queues of the catalog, read when asked: the catalog loads after this module."""

    def __iter__(self) -> Iterator[Queue]:
        """Yield one direct queue per department, then the reserved ones."""
        return (Queue(name) for name in routing.queues(registry.departments))

    def __len__(self) -> int:
        """Return how many queues there are."""
        return len(routing.queues(registry.departments))


def broker_url(url: str) -> str:
    """Return a Redis URL as kombu spells it: no pool size, a socket as `redis+socket://`."""
    plain = without_query(url, "max_connections")
    if urlsplit(plain).scheme == "unix":
        database = urlsplit(plain).query.removeprefix("db=") or "0"
        path = urlsplit(plain).path
        return f"redis+socket://{path}?virtual_host={database}"
    return plain


def configuration(redis_url: str) -> dict[str, Any]:
    """Return every Celery setting of the platform for the Redis at `redis_url`."""
    found: dict[str, Any] = {
        "broker_url": broker_url(redis_url),
        "broker_transport_options": {
            # Leases in PostgreSQL replace acknowledgements: 1 Redis command a message, not 9.
            "ack_emulation": False,
            # One list per queue: priority is the dispatcher's order.
            "priority_steps": [0],
            # Every queue gets its turn; the other strategies starve.
            "queue_order_strategy": "round_robin",
            # Must exceed BRPOP's one second. The worker's event loop waits so long for each of the
            # two connections it speaks on by itself (heartbeats, reply queues) when both are
            # half-open; only then does it look after the two it listens on.
            "socket_timeout": 5,
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            # A silent BRPOP is dropped after one check too many, the control queue's connection
            # after three: together with the wait above below 25 s (tests/chaos/network). With 10
            # and 10 it was 21 and 36 s, with kombu's defaults for ever.
            "health_check_interval": 3,
            # A refused connection is the circuit breaker's business, not a reason to wait.
            "max_retries": 2,
            "interval_start": 0,
            "interval_step": 0.1,
            "interval_max": 0.3,
            "client_name": "automation",
        },
        # Redis may come later than we do, and may be away for hours: never give up.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # READONLY, OOM and LOADING are answers of a broker that recovers; do not die of them.
        "broker_channel_error_retry": True,
        "broker_pool_limit": 10,
        "broker_pool_acquire_timeout": 5,
        "task_publish_retry_policy": {
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0.1,
            "interval_max": 0.2,
        },
        # Results, states and times are rows; a second truth would only disagree.
        "result_backend": None,
        "task_ignore_result": True,
        "task_track_started": False,
        # Early acknowledgement: claim, lease and fence recover what a worker loses. Late ones
        # would add duplicates and loop on a step that kills its worker.
        "task_acks_late": False,
        "task_reject_on_worker_lost": False,
        "task_retry_on_worker_lost": False,
        # None unless asked for (`celery -A config control enable_events`): what they cost is in
        # the README; Flower asks the workers instead.
        "task_send_sent_event": False,
        "worker_send_task_events": False,
        # Nothing is fetched before a process is free for it: what waits behind a long step, or a
        # department with much to do, waits where every worker can take it.
        "worker_disable_prefetch": True,
        "worker_prefetch_multiplier": 1,
        # With early acknowledgement a blip of the broker must not kill work.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_max_memory_per_child": 400_000,  # KiB; checked between messages
        "worker_lost_wait": 5.0,  # seconds until a dead child is reported
        "worker_enable_remote_control": True,  # inspect and Flower
        # Warm shutdown only: running steps finish, prefetched messages go back.
        "worker_soft_shutdown_timeout": 0.0,
        # Django's LOGGING is in force (config.logging); Celery must not replace it.
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        # Nothing that can execute code travels over the broker.
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        # A queue nobody declared is a spelling mistake, not a queue nobody reads.
        "task_create_missing_queues": False,
        "task_queues": DeclaredQueues(),
        "task_default_queue": routing.ORCHESTRATOR,
        "timezone": "UTC",
        "enable_utc": True,
        "imports": ["orchestration.tasks"],
        # Celery's Django fixup closes the connection around each task unless told otherwise.
        "CELERY_DB_REUSE_MAX": settings.CELERY_DB_REUSE_MAX,
    }
    parts = urlsplit(redis_url)
    if parts.scheme == "rediss" and "ssl_cert_reqs" not in parts.query:
        # kombu's own default for rediss:// is not to look at the certificate at all.
        found["broker_use_ssl"] = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    return found


app = Celery(
    "ai_business_engine",
    task_cls="orchestration.task_base:EngineTask",
    amqp="orchestration.reconnecting:SteadyAMQP",
)
app.conf.update(configuration(settings.REDIS_URL))
# Every thread of every process that imports this module publishes through this application.
app.set_default()
app.steps["consumer"].update(
    {worker.PresenceStep, canary.CanaryStep, children.ChildrenStep, MetricsStep}
)
app.steps["worker"].add(worker.BoundedEnd)


@signals.setup_logging.connect
def keep_logging(**_options: Any) -> None:
    """Leave logging as Django's LOGGING set it up; being connected is what tells Celery so."""


@signals.worker_init.connect
def before_fork(sender: Any, **_options: Any) -> None:
    """Open nothing that a forked child would share, and refuse a Redis that evicts queues."""
    bounded.bound_answers(settings.DATABASE_ANSWER_SECONDS)  # the children inherit it
    identity.serve(sender.hostname)  # and this
    tracing.play("worker")
    worker.prepare()
    worker_metrics.begin()
    alarm.install(worker=sender, grace_seconds=settings.WORKER_GRACE_SECONDS)


@signals.celeryd_after_setup.connect
def loaded(**_options: Any) -> None:
    """Freeze what is loaded: the pool has not forked yet, so the children share it."""
    garbage.pass_over_startup()


@signals.worker_shutting_down.connect
def on_signal_to_end(**_options: Any) -> None:
    """Bound the end from the moment the signal arrives, wherever the parent stands."""
    alarm.end_within_grace()


@signals.worker_process_shutdown.connect
def before_end_of_child(**_options: Any) -> None:
    """Send the last spans of a child that ends; it leaves by `_exit`, which asks nobody."""
    tracing.flush(LAST_SPANS_SECONDS)


@signals.worker_process_init.connect
def after_fork(**_options: Any) -> None:
    """Let a step that neither ends nor stops be ended with its process; the pool starts another."""
    from engine import heartbeat  # noqa: PLC0415 - models load after this module

    alarm.forget()
    heartbeat.heart.end_process = heartbeat.kill_this_process
