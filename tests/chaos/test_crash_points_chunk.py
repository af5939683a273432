"""Crash points of a chunk: one claim for thirty-two steps, one commit for their results."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest

from tests.chaos import bounds
from tests.chaos.test_crash_points_database import is_back
from tests.eventually import eventually

pytestmark = pytest.mark.timeout(120)

KILLS = pytest.mark.parametrize("how", ["kill", "kill-group"])
#: Sixteen messages of thirty-two.
COUNT = 512
#: One in the middle of its message.
SOME = 300
#: The second of its message: however slow the bodies are, the chunk is still whole.
EARLY = 289

OPEN = """
SELECT id, map_index, state, claim::text FROM engine_steprun
WHERE run_id = %s AND map_index >= 0 AND claim IS NOT NULL AND state IN ('queued', 'running')
  AND worker LIKE '%%/' || %s::text ORDER BY map_index
"""
ITEMS = """
SELECT map_index, state, attempt, crashes, alone FROM engine_steprun
WHERE run_id = %s AND map_index >= 0 ORDER BY map_index
"""
RELEASED = """
SELECT s.map_index, extract(epoch FROM e.at)::float8 FROM engine_runevent e
JOIN engine_steprun s ON s.id = e.step_run_id
WHERE e.run_id = %s AND e.kind = 'step.released' AND e.data ->> 'reason' = ANY(%s)
"""
STORY = """
SELECT s.map_index, e.kind, e.attempt, e.actor, e.data, e.at FROM engine_runevent e
JOIN engine_steprun s ON s.id = e.step_run_id WHERE e.run_id = %s AND s.crashes > 0 ORDER BY e.id
"""
WRITTEN = """
SELECT md5(string_agg(s::text || COALESCE(o::text, ''), '|' ORDER BY s.id)) FROM engine_steprun s
LEFT JOIN engine_stepoutput o ON o.step_run_id = s.id WHERE s.run_id = %s
"""


def crowd(stack, folder, *, writing: bool = False, **values) -> str:
    """Start many short steps, which travel thirty-two a message."""
    automation = "lab.writing_crowd" if writing else "lab.crowd"
    return stack.submit(automation, **({"folder": str(folder), "count": COUNT} | values))


def bodies(folder, key: str, index: int) -> int:
    """Return how often the body of an item ran."""
    file = folder / f"{key}-{index}"
    return len(file.read_text().splitlines()) if file.exists() else 0


def released(stack, run_id: str, *reasons: str) -> dict[int, float]:
    """Return which members of lost claims were given back, and when each was."""
    found = stack.rows(RELEASED, run_id, list(reasons))
    assert found, "nothing was given back"
    return dict(found)


def whole(stack, run_id: str, *, effects: int = 0, blamed: tuple[int, ...] = ()) -> dict[int, bool]:
    """Check the end: each item succeeded, at its first attempt unless it was blamed for a crash.

    Returns which were marked to run alone.
    """
    stack.sound(run_id, effects=effects)
    rows = stack.rows(ITEMS, run_id)
    crashes = {index for index, _state, _attempt, crashes, _alone in rows if crashes}
    assert crashes == set(blamed), ("blamed for a crash", stack.rows(STORY, run_id))
    assert {state for _index, state, *_ in rows} == {"succeeded"}
    assert {index for index, _state, attempt, *_ in rows if attempt != 1} == set(blamed)
    return {index: alone for index, *_, alone in rows}


def begun_again(stack, run_id: str, index: int) -> float:
    """Wait until the second attempt of an item has begun; return when it did."""
    statement = (
        "SELECT extract(epoch FROM e.at)::float8 FROM engine_runevent e JOIN engine_steprun s"
        " ON s.id = e.step_run_id WHERE e.run_id = %s AND s.map_index = %s"
        " AND e.kind = 'step.started' AND e.attempt = 2"
    )
    found = eventually(lambda: stack.rows(statement, run_id, index), within=15)
    return found[0][0]


def given_back_in_time(point: str, how: str, seconds: float) -> None:
    """Check when the members of a chunk were taken from the dead."""
    if how == "kill":
        bounds.within(f"{point}, child", seconds, table="as 10: ≤ 5 s", in_all=5.0)
    else:
        bounds.within(f"{point}, all of it", seconds, table="as 9", lease=bounds.LEASE, tick=1.0)


@KILLS
def test_crash_point_29__killed_before_its_group_commit(stack, tmp_path, how):
    stack.points.arm("before_complete", role="worker", action=how, key="stand", several=True)
    run_id = crowd(stack, tmp_path)
    died = stack.points.fired("before_complete").at
    alone = whole(stack, run_id)
    back = released(stack, run_id, "worker_lost")
    given_back_in_time("29", how, max(back.values()) - died)
    assert len(back) > 1
    assert {index for index, is_alone in alone.items() if is_alone} == set(back)
    ran = [bodies(tmp_path, "stand", index) for index in range(COUNT)]
    assert set(ran) == {1, 2}, "what was not written ran again"
    assert {index for index, times in enumerate(ran) if times == 2} <= set(back)


@KILLS
def test_crash_point_29__killed_in_the_middle_of_a_chunk_of_writing_steps(stack, tmp_path, how):
    stack.points.arm("in_body", role="worker", action=how, key="mark", index=EARLY)
    run_id = crowd(stack, tmp_path, writing=True)
    died = stack.points.fired("in_body").at
    whole(stack, run_id, effects=COUNT)  # the ledger's key refuses a second row of any
    back = released(stack, run_id, "worker_lost")
    given_back_in_time("29, writing", how, max(back.values()) - died)
    assert EARLY in back
    assert len(back) > 1
    assert bodies(tmp_path, "mark", EARLY) == 2
    assert all(bodies(tmp_path, "mark", index) == 1 for index in range(COUNT) if index not in back)


def test_crash_point_30__killed_while_a_shown_body_has_handed_back_the_rest(stack, tmp_path):
    run_id = crowd(stack, tmp_path, slow=SOME, long=20.0)
    shown = (
        "SELECT worker FROM engine_steprun"
        " WHERE run_id = %s AND map_index = %s AND state = 'running'"
    )
    ((worker,),) = eventually(lambda: stack.rows(shown, run_id, SOME), within=15, what="shown")
    pid = worker.rpartition("/")[2]
    assert [row[1] for row in stack.rows(OPEN, run_id, pid)] == [SOME], "it is alone"
    died = time.time()
    os.kill(int(pid), signal.SIGKILL)
    again = begun_again(stack, run_id, SOME)
    bounds.within("30", again - died, table="as 10: ≤ 5 s", in_all=5.0)
    alone = whole(stack, run_id, blamed=(SOME,))
    assert not any(alone.values()), "what was handed back was not lost"
    ran = [bodies(tmp_path, "stand", index) for index in range(COUNT)]
    assert [index for index, times in enumerate(ran) if times != 1] == [SOME]


def test_crash_point_31__stopped_past_its_lease_its_late_group_commit_is_refused(stack, tmp_path):
    stack.points.arm("before_complete", role="worker", action="stop", key="stand", several=True)
    run_id = crowd(stack, tmp_path)
    mark = stack.points.fired("before_complete")
    zombie = psutil.Process(mark.pid)
    try:
        held = stack.rows(OPEN, run_id, mark.pid)
        finished = {row[0] for row in held if bodies(tmp_path, "stand", row[1])}
        assert len(finished) > 1
        stack.reaches(run_id, "succeeded", within=30)
        back = released(stack, run_id, "worker_lost")
        given_back_in_time("31", "kill-group", max(back.values()) - mark.at)
        assert set(back) == {row[1] for row in held}
        before = stack.rows(WRITTEN, run_id)
    finally:
        zombie.resume()

    def refused() -> set[int]:
        return {line["step_id"] for line in stack.logged("late_write_refused", run_id)}

    eventually(lambda: refused() >= finished, within=5, what="every member is refused")
    assert refused() <= {row[0] for row in held}
    assert stack.rows(WRITTEN, run_id) == before, "nothing of it was written"
    whole(stack, run_id)


def test_crash_point_31__one_member_is_fenced_and_the_others_stand(stack, tmp_path):
    stack.points.arm("before_complete", role="worker", action="sleep:2", key="stand", several=True)
    run_id = crowd(stack, tmp_path)
    mark = stack.points.fired("before_complete")
    held = [row for row in stack.rows(OPEN, run_id, mark.pid) if row[2] == "queued"]
    finished = [row[0] for row in held if bodies(tmp_path, "stand", row[1])]
    fenced, *others = finished
    (claim,) = {row[3] for row in held}
    stack.execute(
        "UPDATE engine_steprun SET state = 'ready', claim = NULL, ready_at = now() WHERE id = %s",
        fenced,
    )
    whole(stack, run_id)
    claims = dict(
        stack.rows("SELECT id, claim::text FROM engine_steprun WHERE run_id = %s", run_id)
    )
    assert {claims[other] for other in others} == {claim}
    assert claims[fenced] != claim
    refused = [line["step_id"] for line in stack.logged("late_write_refused", run_id)]
    assert refused == [fenced]


def test_crash_point_32__one_of_a_chunk_ends_its_worker_and_dies_alone(stack, tmp_path):
    run_id = crowd(stack, tmp_path, mine=SOME)
    stack.reaches(run_id, "blocked", within=60)
    eventually(lambda: stack.count(run_id, "succeeded", "stand") == COUNT - 1, within=20)
    found = {row[0]: row[1:] for row in stack.rows(ITEMS, run_id)}
    assert found.pop(SOME) == ("dead", 3, 3, True), "three crashes of its own"
    assert {row[:3] for row in found.values()} == {("succeeded", 1, 0)}
    assert bodies(tmp_path, "stand", SOME) == 4, "once in its chunk, three times alone"
    back = released(stack, run_id, "worker_lost")
    assert SOME in back, "the first time it was one of several, and nobody was blamed"
    assert 1 < len(back) <= 32
    stack.sound()


@KILLS
def test_crash_point_33__killed_between_handing_back_and_publishing(stack, tmp_path, how):
    stack.points.arm("before_publish", role="worker", action=how, several=True)
    run_id = crowd(stack, tmp_path, count=128, seconds=0.03)
    died = stack.points.fired("before_publish").at
    whole(stack, run_id)
    back = released(stack, run_id, "worker_lost", "message_lost")
    if how == "kill":
        bounds.within("33, child", max(back.values()) - died, table="as 10: ≤ 5 s", in_all=5.0)
    else:
        bounds.within(
            "33, all of it", max(back.values()) - died, table="as 13: 3-5 s", **bounds.LOST_MESSAGE
        )
    ran = [bodies(tmp_path, "stand", index) for index in range(128)]
    assert min(ran) == 1


def test_crash_point_34__redis_is_emptied_in_the_middle_of_a_chunk(stack, tmp_path):
    """What is held goes on; what lay in the broker is sent again."""
    stack.points.arm("in_body", role="worker", action="sleep:1", key="stand", index=SOME)
    run_id = crowd(stack, tmp_path, seconds=0.01)
    stack.points.fired("in_body")
    stack.redis().flushall()
    emptied = time.time()
    work = COUNT * 0.012 / 4
    bounds.within(
        "34", stack.ended(run_id) - emptied, table="≤ 2 s + n/rate", in_all=2.0, body=1.0,
        work_of_four=work, chunks_and_hops=2.0,
    )  # fmt: skip
    whole(stack, run_id)
    assert {bodies(tmp_path, "stand", index) for index in range(COUNT)} == {1}


@pytest.mark.parametrize("writing", [False, True], ids=["pure", "writing"])
def test_crash_point_34__postgresql_restarts_in_the_middle_of_a_chunk(stack, tmp_path, writing):
    key = "mark" if writing else "stand"
    stack.points.arm("in_body", role="worker", action="sleep:2", key=key, index=SOME)
    run_id = crowd(stack, tmp_path, writing=writing)
    stack.points.fired("in_body")
    stack.execute("CHECKPOINT")  # the claims are on the disk: their loss is point 19
    stack.kill("postgres")
    back = is_back(stack)
    bounds.within(
        f"34, {key}, PostgreSQL", stack.ended(run_id) - back, table="as 18: up + lease + 1",
        lease=bounds.LEASE, body=1.0, successors=1.0,
    )  # fmt: skip
    stack.sound(run_id, effects=COUNT if writing else 0)
    rows = stack.rows(ITEMS, run_id)
    assert {state for _index, state, *_ in rows} == {"succeeded"}
