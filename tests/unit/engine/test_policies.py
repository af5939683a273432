"""Backoff: bounded, growing, spread."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import GraphInvalidError
from engine.policies import CRASH_DELAY_SECONDS, Retry, crash_delay


def test_delay__grows_by_the_factor_up_to_the_limit():
    retry = Retry(attempts=9, first_delay=1, factor=3, max_delay=20, jitter=0)
    dice = random.Random(1)
    assert [retry.delay(failures=n, random=dice) for n in range(1, 6)] == [1, 3, 9, 20, 20]


@given(
    failures=st.integers(0, 10_000),
    factor=st.floats(1, 100),
    jitter=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_delay__is_always_finite_and_within_its_spread(failures, factor, jitter, seed):
    retry = Retry(first_delay=0.5, factor=factor, max_delay=60, jitter=jitter)
    delay = retry.delay(failures=failures, random=random.Random(seed))
    assert 0 <= delay <= 60 * (1 + jitter)


def test_delay__is_spread_so_that_steps_do_not_come_back_together():
    retry = Retry(first_delay=10, jitter=0.5)
    delays = {round(retry.delay(failures=1, random=random.Random(n)), 3) for n in range(50)}
    assert len(delays) > 40
    assert min(delays) >= 5
    assert max(delays) <= 15


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"attempts": 0}, "attempts"),
        ({"first_delay": -1}, "first_delay"),
        ({"factor": 0.5}, "factor"),
        ({"max_delay": 0.1}, "max_delay"),
        ({"jitter": 2}, "jitter"),
    ],
)
def test_retry__refuses_nonsense_by_name(wrong, word):
    with pytest.raises(GraphInvalidError, match=word):
        Retry(**wrong)


def test_crash_delay__doubles():
    assert crash_delay(crashes=1) == CRASH_DELAY_SECONDS
    assert crash_delay(crashes=2) == 2 * CRASH_DELAY_SECONDS
