import itertools

import pytest

from tests.bench import sizes

SIDES = ("raw", "durable", "ours")


def test_orders__every_order_once_before_any_comes_again():
    found = list(itertools.islice(sizes.orders(SIDES, seed=7), 6))
    assert sorted(found) == sorted(itertools.permutations(SIDES))


def test_orders__a_seed_fixes_them():
    def deal(seed):
        return list(itertools.islice(sizes.orders(SIDES, seed=seed), 6))

    assert deal(7) == deal(7)
    assert any(deal(7) != deal(seed) for seed in range(8, 12))


def test_sections__nothing_asked_is_everything_that_fits():
    assert sizes.sections("", quick=False) == sizes.SECTIONS
    assert "TUPLES" not in sizes.sections("", quick=True)
    assert set(sizes.sections("", quick=True)) >= {"W1", "W2", "W3", "W4", "API"}


def test_sections__as_asked_in_their_own_order():
    assert sizes.sections("w3, W1", quick=True) == ("W1", "W3")


def test_sections__a_misspelt_one_is_refused():
    with pytest.raises(ValueError, match="W9"):
        sizes.sections("W1,W9", quick=False)
