from itertools import pairwise

import pytest

from engine.webhooks import backoff


def test_pauses__spread_the_attempts_over_a_day():
    pauses = [backoff.pause_seconds(tries=n) for n in range(1, backoff.MAX_ATTEMPTS)]
    assert 20 * 3600 < sum(pauses) < 26 * 3600
    assert 4 < pauses[0] < 6
    assert all(after > before for before, after in pairwise(pauses[:8]))
    assert backoff.pause_seconds(tries=backoff.MAX_ATTEMPTS) is None


def test_pauses__are_not_all_the_same():
    assert len({backoff.pause_seconds(tries=5) for _ in range(20)}) > 10


@pytest.mark.parametrize(
    ("asked", "at_least", "at_most"),
    [(120.0, 120, 120), (1.0, 4, 6), (10.0**9, 6 * 3600, 6 * 3600), (-5.0, 4, 6), (None, 4, 6)],
)
def test_retry_after__lengthens_the_pause_within_bounds(asked, at_least, at_most):
    pause = backoff.pause_seconds(tries=1, retry_after=asked)
    assert at_least <= pause <= at_most


def test_retry_after__gives_no_further_attempt():
    assert backoff.pause_seconds(tries=backoff.MAX_ATTEMPTS, retry_after=60) is None
