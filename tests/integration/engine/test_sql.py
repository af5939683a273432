"""How values reach the hot statements."""

from __future__ import annotations

import pytest

from engine import sql


@pytest.mark.parametrize(
    "values",
    [[], ["one"], ["two words", 'a "quote"', "back\\slash", "{brace},", "NULL", "", "ü"]],
)
def test_array__arrives_as_it_was_given(db, values):
    (row,) = sql.rows("SELECT %(values)s::text[] AS found", {"values": sql.array(values)})
    assert row.found == values


def test_array__of_numbers(db):
    (row,) = sql.rows("SELECT %(values)s::bigint[] AS found", {"values": sql.array([3, -1])})
    assert row.found == [3, -1]
