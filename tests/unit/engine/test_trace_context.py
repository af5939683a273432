from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import trace_context

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SOUND = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("said", "taken"),
    [
        (SOUND, SOUND),
        (f" {SOUND}\t", SOUND),
        # Whoever knows version 00 alone goes on with what he knows of a later one.
        ("cc" + SOUND[2:], SOUND),
        ("cc" + SOUND[2:] + "-what-comes-later", SOUND),
        (SOUND + "-more", ""),
        ("cc" + SOUND[2:] + "more", ""),
        ("ff" + SOUND[2:], ""),
        (SOUND.upper(), ""),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", ""),
        (f"00-{TRACE}-{'0' * 16}-01", ""),
        (SOUND[:-1], ""),
        (f"{SOUND},{SOUND}", ""),
        (SOUND + "\n", ""),
        (SOUND.replace("4", "\N{FULLWIDTH DIGIT FOUR}"), ""),
        ("", ""),
    ],
)
def test_parse__takes_what_the_standard_takes(said, taken):
    assert trace_context.parse(said) == taken


@given(st.text())
def test_parse__gives_a_sound_one_or_none(text):
    found = trace_context.parse(text)
    assert len(found) in {0, trace_context.CHARACTERS}
    assert trace_context.parse(found) == found


def test_trace_id__names_the_trace():
    assert trace_context.trace_id(SOUND) == TRACE
    assert trace_context.trace_id("") == ""
