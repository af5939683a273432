"""What the daily routine looks at, its limits, and where the runbook says what to do.

The limits are the operations guide's, those of the alerts of the same name; an anchor is the name
of an alert, or of another section, in lower case.
"""

from __future__ import annotations

from dataclasses import dataclass

RUNBOOK = "deploy/RUNBOOK.md"

#: Seconds that 95 % of the API's requests may take, and the share of them that may fail.
LATENCY_SECONDS = 0.3
ERROR_RATIO = 0.01
STREAM_LAG_SECONDS = 60.0
QUEUE_DEPTH = 100
REDIS_MEMORY_RATIO = 0.6
BACKUP_SECONDS = 86_400.0
#: A manager that has said nothing for so long is not counted on, in seconds.
HEARTBEAT_SECONDS = 60.0
#: Share of its connections that the database may have given away.
CONNECTION_RATIO = 0.8


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the routine: its name, what people read, its limit in words, and its section."""

    name: str
    title: str
    limit: str
    section: str

    @property
    def runbook(self) -> str:
        """Return where the runbook says what to do."""
        return f"{RUNBOOK}#{self.section.lower()}"


CHECKS = {
    check.name: check
    for check in (
        Check("web", "Web", "healthy", "WebDown"),
        Check("database", "PostgreSQL", f"answers, < {CONNECTION_RATIO:.0%} taken", "DatabaseDown"),
        Check("migrations", "Migrations", "all applied", "DatabaseDown"),
        Check("redis", "Redis", "answers", "RedisDown"),
        Check("manager", "Manager", "healthy", "ManagerDown"),
        Check(
            "api_latency",
            "API latency, p95",
            f"< {LATENCY_SECONDS * 1000:.0f} ms",
            "HighAPILatency",
        ),
        Check("api_errors", "API errors, 5xx", f"< {ERROR_RATIO:.0%}", "HighErrorRate"),
        Check("stream_lag", "Stream lag", f"< {STREAM_LAG_SECONDS:.0f} s", "HighStreamLag"),
        Check("queue_depth", "Queue depth, deepest", f"< {QUEUE_DEPTH}", "HighQueueDepth"),
        Check("workers", "Workers", "1 where work waits", "NoWorkers"),
        Check("runs_stuck", "Runs stuck", "0", "RunsStuck"),
        Check("recent_runs", "Recent runs", "no limit", "Runs"),
        Check("dead_letters", "Dead letters, new in 24 h", "0", "DeadLettersGrowing"),
        Check("redis_memory", "Redis memory", f"< {REDIS_MEMORY_RATIO:.0%}", "HighRedisMemory"),
        Check("redis_eviction", "Redis eviction", "noeviction", "RedisEvictionPolicy"),
        Check("backup", "Newest backup", f"< {BACKUP_SECONDS / 3600:.0f} h old", "BackupTooOld"),
    )
}


@dataclass(frozen=True, slots=True)
class Measured:
    """What a look found: words for people, whether that is within the limit, the bare number."""

    value: str
    ok: bool
    number: float | None = None
    #: What is worth knowing beside it.
    note: str = ""
