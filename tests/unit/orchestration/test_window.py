"""How much of a backlog is put in front of workers of any speed, played tick by tick."""

from __future__ import annotations

from math import ceil

import pytest

from orchestration import routing
from orchestration.manager.window import AHEAD_SECONDS, FIRST, LEAST, MOST, Window

TICK_SECONDS = 0.025


class Queue:
    """A queue of messages whose steps are taken by children, each so many seconds a step."""

    def __init__(self, *, children: int, step_seconds: float) -> None:
        self.messages: list[int] = []
        self.free_at = [0.0] * children
        self.step_seconds = step_seconds
        self.done = 0

    def send(self, steps: int, spread: int) -> None:
        size = routing.steps_per_message(steps, spread=spread)
        full, rest = divmod(steps, size)
        self.messages += [size] * full + [rest] * bool(rest)

    def run_until(self, now: float) -> None:
        while self.messages and min(self.free_at) <= now:
            child = self.free_at.index(min(self.free_at))
            steps = self.messages.pop(0)
            self.free_at[child] = max(now - TICK_SECONDS, self.free_at[child]) + (
                steps * self.step_seconds
            )
            self.done += steps


def play(queue: Queue, *, seconds: float, window: Window | None = None) -> Window:
    """Let a dispatcher with an endless backlog serve a queue."""
    window = window or Window()
    for tick in range(1, ceil(seconds / TICK_SECONDS) + 1):
        now = tick * TICK_SECONDS
        queue.run_until(now)
        steps = window.room(depth=len(queue.messages), now=now)
        if steps:
            depth = len(queue.messages)
            queue.send(steps, window.spread)
            window.note(sent=steps, depth=depth, now=now)
    return window


@pytest.mark.parametrize(
    ("children", "step_seconds"),
    [(2, 0.0005), (2, 0.02), (2, 5.0), (16, 0.02), (16, 0.0005), (1, 0.3)],
)
def test_window__children_of_any_speed_are_kept_busy(children, step_seconds):
    queue = Queue(children=children, step_seconds=step_seconds)
    play(queue, seconds=10.0)
    possible = min(10.0 * children / step_seconds, 10.0 * MOST / TICK_SECONDS)
    assert queue.done >= 0.8 * possible


@pytest.mark.parametrize(("children", "step_seconds"), [(2, 0.0005), (2, 0.02), (8, 0.1), (2, 5.0)])
def test_window__what_stands_in_front_is_soon_begun(children, step_seconds):
    queue = Queue(children=children, step_seconds=step_seconds)
    play(queue, seconds=10.0)
    ahead = sum(queue.messages)
    assert ahead <= FIRST or ahead * step_seconds / children <= 3 * AHEAD_SECONDS


def test_window__nobody_who_takes_gets_little_and_is_served_fully_soon_after():
    queue = Queue(children=0, step_seconds=1.0)
    window = Window()
    for tick in range(1, 200):
        steps = window.room(depth=len(queue.messages), now=tick * TICK_SECONDS)
        if steps:
            depth = len(queue.messages)
            queue.send(steps, window.spread)
            window.note(sent=steps, depth=depth, now=tick * TICK_SECONDS)
    assert sum(queue.messages) == FIRST
    assert window.steps == LEAST
    quick = Queue(children=2, step_seconds=0.0005)
    play(quick, seconds=0.3, window=window)
    assert window.steps > MOST / 2


def test_window__one_look_at_a_clock_that_stands_still_teaches_nothing():
    window = Window()
    window.note(sent=5, depth=0, now=1.0)
    assert window.room(depth=0, now=1.0) == FIRST


def test_spread__quick_steps_travel_together_and_unknown_ones_apart():
    window = Window()
    assert window.spread == routing.SPREAD_MESSAGES
    for now in (1.0, 1.1):
        window.note(sent=MOST, depth=0, now=now)
        window.room(depth=0, now=now + TICK_SECONDS)
    assert window.steps == MOST
    assert window.spread < routing.SPREAD_MESSAGES


def test_urgent__goes_first_again_when_the_last_of_it_is_taken_or_late():
    window = Window()
    assert window.lets_pass(depth=300, now=1.0)
    window.note_urgent(depth=300, now=1.0)
    assert not window.lets_pass(depth=301, now=1.1)
    assert window.lets_pass(depth=300, now=1.1)
    assert window.lets_pass(depth=316, now=1.0 + 2 * AHEAD_SECONDS)


def test_window__a_queue_that_is_never_empty_is_learnt_to_be_quick():
    """A message costs the worker's parent as much as its steps: quick ones must share messages."""

    class Costly(Queue):
        def run_until(self, now: float) -> None:
            while self.messages and self.free_at[0] <= now:
                begun = max(now - TICK_SECONDS, self.free_at[0])
                self.free_at[0] = begun + 0.0015 + self.messages[0] * self.step_seconds
                self.done += self.messages.pop(0)

    queue = Costly(children=1, step_seconds=0.0005)
    window = play(queue, seconds=3.0)
    assert routing.steps_per_message(window.steps, spread=window.spread) >= 16
    assert queue.done >= 0.7 * 3.0 / 0.0005
