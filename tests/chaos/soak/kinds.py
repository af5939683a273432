"""Every kind of fault by the name it has in the tables."""

from __future__ import annotations

from tests.chaos.soak import faults, outages

KINDS: dict[str, type[faults.Fault]] = {
    "worker killed": faults.WorkerKilled,
    "worker child killed": faults.ChildKilled,
    "worker told to end (SIGTERM)": faults.WorkerTerminated,
    "orchestrator killed": faults.OrchestratorKilled,
    "manager killed": faults.ManagerKilled,
    "web killed": faults.WebKilled,
    "process stopped, shorter than a lease": faults.StoppedShort,
    "process stopped, longer than a lease": faults.StoppedLong,
    "PostgreSQL restarted (immediate)": outages.PostgresRestarted,
    "PostgreSQL killed": outages.PostgresKilled,
    "all database sessions ended": outages.SessionsTerminated,
    "Redis killed": outages.RedisKilled,
    "Redis killed, its files deleted": outages.RedisWiped,
    "Redis emptied (FLUSHALL)": outages.RedisFlushed,
    "Redis filled to its limit": outages.RedisFull,
}
