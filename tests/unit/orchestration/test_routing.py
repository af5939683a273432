from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.publishing import ReadyStep
from orchestration import routing


def test_queues__departments_and_the_reserved_ones():
    assert routing.queues(["sales", "finance"]) == [
        "finance",
        "sales",
        "orchestrator",
        "dead_letter",
    ]


@pytest.mark.parametrize(
    ("count", "size"), [(1, 1), (16, 1), (17, 2), (24, 2), (160, 10), (1_000, 32), (100_000, 32)]
)
def test_steps_per_message__few_steps_spread_and_many_travel_together(count, size):
    assert routing.steps_per_message(count) == size


def test_messages__a_smaller_spread_makes_fewer_messages():
    steps = [ReadyStep(number, "a") for number in range(20)]
    assert [len(ids) for _queue, ids in routing.messages(steps, spread=4)] == [5, 5, 5, 5]


def test_messages__keeps_queues_apart_and_their_order():
    steps = [ReadyStep(1, "a"), ReadyStep(2, "b"), ReadyStep(3, "a")]
    assert list(routing.messages(steps)) == [("a", [1]), ("a", [3]), ("b", [2])]


def test_messages__a_step_that_must_be_alone_shares_with_nobody():
    steps = [ReadyStep(number, "a", alone=number in {40, 41}) for number in range(100)]
    found = [ids for _queue, ids in routing.messages(steps)]
    assert [ids for ids in found if {40, 41}.intersection(ids)] == [[40], [41]]
    assert max(map(len, found)) == 7, "the others still travel together"


@given(
    st.lists(st.tuples(st.integers(1, 10**9), st.sampled_from("abc"), st.booleans()), max_size=400)
)
def test_messages__every_step_exactly_once_in_its_queue(triples):
    steps = [ReadyStep(number, queue, alone) for number, queue, alone in triples]
    sent = [(found, queue) for queue, ids in routing.messages(steps) for found in ids]
    pairs = [(number, queue) for number, queue, _alone in triples]
    assert sorted(sent) == sorted(pairs)
    for queue in "abc":
        assert [n for n, q in sent if q == queue] == [n for n, q in pairs if q == queue]
