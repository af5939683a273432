"""Crash points 18 and 19: PostgreSQL restarts, or dies with commits it had not written down."""

from __future__ import annotations

import signal
import time

import psutil
import psycopg
import pytest

from tests.chaos import bounds
from tests.eventually import eventually

pytestmark = pytest.mark.timeout(120)


def is_back(stack, within: float = 30) -> float:
    """Wait until PostgreSQL accepts connections; return when it did."""

    def answered() -> float:
        try:
            stack.rows("SELECT 1")
        except psycopg.OperationalError:
            return 0.0
        return time.time()

    return eventually(answered, within=within, what="PostgreSQL answers")


@pytest.mark.parametrize("how", [signal.SIGQUIT, signal.SIGINT], ids=["immediate", "fast"])
def test_crash_point_18__postgresql_restarts_while_steps_run(stack, how):
    """It stays away for longer than a lease; the steps end meanwhile, and commit afterwards."""
    found = [
        stack.submit(automation, seconds=2)
        for automation in ("lab.think", "lab.tally", "lab.think", "lab.tally")
    ]
    keys = ["think", "tally", "think", "tally"]
    for run_id, key in zip(found, keys, strict=True):
        stack.started(run_id, key)
    stack.execute("CHECKPOINT")  # the claims are on the disk: their loss is point 19
    with stack.stopped(stack.keeper("postgres")):
        server = stack.find("postgres")
        server.send_signal(how)
        eventually(lambda: server.status() == psutil.STATUS_ZOMBIE, within=20)
        died = time.time()
        eventually(lambda: time.time() - died > bounds.LEASE + 2, within=bounds.LEASE + 5)
    back = is_back(stack)
    for run_id in found:
        stack.reaches(run_id, "succeeded", within=30)
    ended = stack.rows(
        "SELECT max(extract(epoch FROM finished_at))::float8 FROM engine_run"
        " WHERE id = ANY(%s::uuid[])",
        found,
    )[0][0]
    bounds.within(
        f"18, {how.name}", ended - back, table="PG up + ≤ TTL", TTL=bounds.LEASE, successors=1.0
    )
    for run_id, key in zip(found, keys, strict=True):
        step = stack.step(run_id, key)
        assert (step["attempt"], step["crashes"]) == (1, 0), f"an attempt of {key} was lost"
    stack.sound(found[0], found[2], effects=1)
    stack.sound(found[1], found[3], effects=2)


TRIES = 3


def test_crash_point_19__postgresql_dies_with_a_claim_it_had_not_written_down(stack):
    """The claim is committed asynchronously: the row is queued again, the old claim fenced."""
    stack.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
    stack.execute("SELECT pg_reload_conf()")
    try:
        assert any(lose_a_claim(stack) for _ in range(TRIES)), "no claim was ever lost"
    finally:
        stack.execute("ALTER SYSTEM RESET wal_writer_delay")
        stack.execute("SELECT pg_reload_conf()")


def lose_a_claim(stack) -> bool:
    """Kill PostgreSQL between a claim and its WAL; return whether the claim was forgotten."""
    stack.settle()
    with stack.stopped(*stack.managers()):  # nobody else commits, and so flushes
        stack.points.arm("after_claim", role="worker", action="stop", key="tally")
        run_id = stack.submit("lab.tally")
        mark = stack.points.fired("after_claim")
        zombie = psutil.Process(mark.pid)
        try:
            stack.find("postgres").kill()
            is_back(stack)
            before = stack.step(run_id, "tally")
            lost = before["state"] == "queued" and before["claim"] is None
        finally:
            zombie.resume()
        if lost:
            eventually(lambda: stack.logged("late_write_refused", run_id), within=10)
            assert stack.step(run_id, "tally")["state"] == "queued"
            assert stack.ledger(run_id) == 0
        free = time.time()
    if lost:
        bounds.within(
            "19", stack.started(run_id, "tally") - free, table="3-5 s", **bounds.LOST_MESSAGE,
        )  # fmt: skip
    stack.sound(run_id)
    return lost
