"""Legality of every pair of states; the tables of DESIGN §3."""

from __future__ import annotations

from itertools import product

import pytest

from engine.states import (
    RUN_CLAIMABLE,
    RUN_TERMINAL,
    RUN_TRANSITIONS,
    STEP_TERMINAL,
    STEP_TRANSITIONS,
    STEP_UNCLAIMED,
    RunState,
    StepState,
)


def test_tables__name_every_state():
    assert set(RUN_TRANSITIONS) == set(RunState)
    assert set(STEP_TRANSITIONS) == set(StepState)


@pytest.mark.parametrize(("before", "after"), [*product(StepState, StepState)])
def test_steps__leave_a_terminal_state_only_by_requeue(before, after):
    legal = after in STEP_TRANSITIONS[before]
    if before in STEP_TERMINAL and legal:
        assert (before, after) in {
            (StepState.DEAD, StepState.READY),
            (StepState.CANCELLED, StepState.READY),
            (StepState.CANCELLED, StepState.WAITING),
        }


@pytest.mark.parametrize(("before", "after"), [*product(RunState, RunState)])
def test_runs__leave_a_terminal_state_only_by_requeue(before, after):
    if before in RUN_TERMINAL and after in RUN_TRANSITIONS[before]:
        assert before == RunState.FAILED
        assert after in {RunState.RUNNING, RunState.BLOCKED}


def test_runs__end_badly_only_through_cancelling():
    for ending in (RunState.CANCELLED, RunState.FAILED, RunState.TIMED_OUT):
        assert [s for s in RunState if ending in RUN_TRANSITIONS[s]] == [RunState.CANCELLING]


def test_steps__every_unclaimed_state_can_be_cancelled():
    for before in STEP_UNCLAIMED:
        assert StepState.CANCELLED in STEP_TRANSITIONS[before]


def test_every_state__can_be_reached_and_left():
    for table, terminal, start in (
        (STEP_TRANSITIONS, STEP_TERMINAL, {StepState.WAITING, StepState.READY, StepState.QUEUED}),
        (RUN_TRANSITIONS, RUN_TERMINAL, {RunState.PENDING}),
    ):
        reached = set(start)
        for _ in table:
            reached |= {after for before in reached for after in table[before]}
        assert reached == set(table)
        assert all(table[before] for before in table if before not in terminal)
    assert not RUN_CLAIMABLE & RUN_TERMINAL
