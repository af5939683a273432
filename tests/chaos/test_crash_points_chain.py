"""Crash points of a chain that goes on in the worker that ended its last step, and of a fork."""

from __future__ import annotations

import time

import pytest

from engine import outcomes
from tests.chaos import bounds
from tests.chaos.faults.fast_steps import LENGTH
from tests.chaos.test_crash_points_database import is_back

pytestmark = pytest.mark.timeout(120)

KILLS = pytest.mark.parametrize("how", ["kill", "kill-group"])
CHAINS = pytest.mark.parametrize("chain", ["relay", "pass_on"])


def key(chain: str, number: int) -> str:
    """Return the key of the n-th step of a chain."""
    return chain if number == 1 else f"{chain}_{number}"


def bodies(folder, chain: str) -> list[int]:
    """Return how often the body of each step ran, in order."""
    files = [folder / key(chain, number) for number in range(1, LENGTH + 1)]
    return [len(file.read_text().splitlines()) if file.exists() else 0 for file in files]


def steps(stack, run_id: str, chain: str) -> list[dict]:
    return [stack.step(run_id, key(chain, number)) for number in range(1, LENGTH + 1)]


def whole(stack, run_id: str, chain: str, *, again: int = 0) -> None:
    """Check the end: each step succeeded at its first attempt, but for the one that ran again."""
    stack.sound(run_id, effects=LENGTH if chain == "relay" else 0)
    found = steps(stack, run_id, chain)
    wanted = [(2, 1) if number == again else (1, 0) for number in range(1, LENGTH + 1)]
    assert [(step["attempt"], step["crashes"]) for step in found] == wanted


def found_again(stack, point: str, how: str, *, run_id: str, step: str, died: float) -> None:
    """Check when the step that was lost with its worker begins again."""
    again = stack.started(run_id, step, attempt=2) - died
    if how == "kill":
        bounds.within(f"{point}, child", again, table="as 10: ≤ 5 s", in_all=5.0)
    else:
        bounds.within(f"{point}, all of it", again, table="as 9", **bounds.BY_LEASE)


@KILLS
@CHAINS
def test_crash_point_24__killed_between_the_commit_that_claims_the_successor_and_its_body(
    stack, tmp_path, chain, how
):
    stack.points.arm("after_complete_commit", role="worker", action=how, sticky=True)
    run_id = stack.submit(f"lab.{chain}", folder=str(tmp_path))
    died = stack.points.fired("after_complete_commit").at
    number = sum(bodies(tmp_path, chain))
    done, lost = (stack.step(run_id, key(chain, n)) for n in (number, number + 1))
    assert (done["state"], done["claim"]) == ("succeeded", lost["claim"])
    assert bodies(tmp_path, chain)[number] == 0, "it had not begun"
    found_again(stack, f"24, {chain}", how, run_id=run_id, step=key(chain, number + 1), died=died)
    whole(stack, run_id, chain, again=number + 1)
    assert bodies(tmp_path, chain) == [1] * LENGTH


@KILLS
@CHAINS
def test_crash_point_25__killed_in_the_middle_of_a_chain(stack, tmp_path, chain, how):
    stack.points.arm("in_body", role="worker", action=how, key=key(chain, 6))
    run_id = stack.submit(f"lab.{chain}", folder=str(tmp_path))
    died = stack.points.fired("in_body").at
    before = steps(stack, run_id, chain)
    assert [step["state"] for step in before[:5]] == ["succeeded"] * 5, "what was committed stands"
    claims = [step["claim"] for step in before[:6]]
    assert len(set(claims)) < len(claims), "it was gone on with"
    found_again(stack, f"25, {chain}", how, run_id=run_id, step=key(chain, 6), died=died)
    whole(stack, run_id, chain, again=6)
    assert bodies(tmp_path, chain) == [2 if number == 6 else 1 for number in range(1, LENGTH + 1)]


@CHAINS
def test_crash_point_26__answer_of_the_commit_that_claims_the_successor_is_lost(
    stack, tmp_path, chain
):
    stack.points.arm("after_complete_commit", role="worker", action="lose-answer", sticky=True)
    run_id = stack.submit(f"lab.{chain}", folder=str(tmp_path))
    lost = stack.points.fired("after_complete_commit").at
    bounds.within(
        f"26, {chain}, run ended", stack.ended(run_id) - lost, table="0 s: its holder asks",
        first_pause=outcomes.FIRST_WAIT_SECONDS, asking=0.3, the_rest=1.0,
    )  # fmt: skip
    claims = [step["claim"] for step in steps(stack, run_id, chain)]
    assert len(set(claims)) < len(claims), "it was gone on with"
    whole(stack, run_id, chain)
    assert bodies(tmp_path, chain) == [1] * LENGTH


@KILLS
def test_crash_point_27__killed_after_its_commit_before_sending_the_other_branch(
    stack, tmp_path, how
):
    stack.points.arm("before_publish", role="worker", action=how, any=True)
    run_id = stack.submit("lab.fork", folder=str(tmp_path))
    died = stack.points.fired("before_publish").at
    branches = {name: stack.step(run_id, name) for name in ("relay_2", "relay_3")}
    top = stack.step(run_id, "relay")
    (here,) = (name for name, step in branches.items() if step["claim"] == top["claim"])
    (sent,) = set(branches) - {here}
    assert branches[sent]["claim"] is None
    bounds.within(
        f"27, {how}, the other branch", stack.started(run_id, sent) - died, table="as 13: 3-5 s",
        **bounds.LOST_MESSAGE,
    )  # fmt: skip
    found_again(stack, "27, its own", how, run_id=run_id, step=here, died=died)
    stack.sound(run_id, effects=3)
    found = {name: stack.step(run_id, name) for name in ("relay", here, sent, "join")}
    assert [(step["attempt"], step["crashes"]) for step in found.values()] == [
        (1, 0), (2, 1), (1, 0), (1, 0),
    ]  # fmt: skip


@CHAINS
def test_crash_point_28__redis_is_emptied_in_the_middle_of_a_chain(stack, tmp_path, chain):
    """A chain needs no broker."""
    stack.points.arm("in_body", role="worker", action="sleep:1", key=key(chain, 6))
    run_id = stack.submit(f"lab.{chain}", folder=str(tmp_path))
    began = stack.points.fired("in_body").at
    stack.redis().flushall()
    emptied = time.time()
    assert emptied - began < 1.0, "in the middle"
    # The slice is over after the long one: what follows it is sent, by a broker that is there.
    bounds.within(
        f"28, {chain}", stack.ended(run_id) - emptied, table="body + ≤ 2 s", body=1.0, in_all=2.0
    )
    whole(stack, run_id, chain)
    assert bodies(tmp_path, chain) == [1] * LENGTH


@CHAINS
def test_crash_point_28__postgresql_restarts_in_the_middle_of_a_chain(stack, tmp_path, chain):
    stack.points.arm("in_body", role="worker", action="sleep:1", key=key(chain, 6))
    run_id = stack.submit(f"lab.{chain}", folder=str(tmp_path))
    stack.points.fired("in_body")
    stack.execute("CHECKPOINT")  # the claim is on the disk: its loss is point 19
    stack.kill("postgres")
    back = is_back(stack)
    bounds.within(
        f"28, {chain}, PostgreSQL", stack.ended(run_id) - back, table="as 18: up + lease + 1",
        lease=bounds.LEASE, successors=1.0,
    )  # fmt: skip
    whole(stack, run_id, chain)
    assert bodies(tmp_path, chain) == [1] * LENGTH
