"""How much of a lane's backlog stands in its queue: about what the workers take in a moment. Pure.

Too little and workers wait for the dispatcher's next tick; too much and what is urgent waits behind
it. How fast a queue is taken is learnt from its length, whatever the number of workers.
"""

from __future__ import annotations

from orchestration import routing

#: The work that may stand in a queue, in seconds.
AHEAD_SECONDS = 0.25
#: StepRuns that are sent at once, at least, at most and at first.
LEAST, MOST = 4, routing.MAX_STEPS_PER_MESSAGE * routing.SPREAD_MESSAGES
FIRST = routing.SPREAD_MESSAGES
#: A queue that takes more StepRuns than this at once has quick ones: they share messages the more
#: the quicker they are, but no fewer messages than LEAST_SPREAD, for there may be several children.
QUICK, LEAST_SPREAD = 24, 4


class Window:
    """The number of StepRuns that a queue is given at once; moments are of the monotonic clock."""

    def __init__(self) -> None:
        self.steps = FIRST
        #: Whether more stands in line than there was room for.
        self.is_short = False
        #: How many messages stood in the queue after the last ones were sent, and when that was.
        self._stood = 0
        self._sent_at = 0.0
        #: StepRuns in one of those messages.
        self._a_message = 1
        #: How long the queue was when something urgent was put before all of it, and when that was.
        self._overtaken = 0
        self._urgent_at = 0.0

    @property
    def spread(self) -> int:
        """Return how many messages are filled with one StepRun each before any carries two."""
        return max(LEAST_SPREAD, routing.SPREAD_MESSAGES * QUICK // max(QUICK, self.steps))

    def room(self, *, depth: int, now: float) -> int:
        """Return how many StepRuns may be sent to a queue that holds `depth` messages.

        None while more than half of what it is given stands there. How much it is given is learnt
        from how fast it is taken; one found empty was given too little, whatever was taken.
        """
        took = now - self._sent_at
        taken = (self._stood - depth) * self._a_message
        if taken > 0 and 0 < took < AHEAD_SECONDS:
            learnt = min(MOST, int(taken * AHEAD_SECONDS / took))
            self.steps = max(self.steps, learnt) if depth == 0 else max(LEAST, learnt)
        if depth <= min(routing.SPREAD_MESSAGES, self.steps) // 2:
            return self.steps
        if took > AHEAD_SECONDS:
            self.steps = max(LEAST, self.steps // 2)
            self._stood, self._sent_at = 0, now
        return 0

    def note(self, *, sent: int, depth: int, now: float) -> None:
        """Remember what was sent behind `depth` messages, to learn from how fast it is taken."""
        self._a_message = routing.steps_per_message(sent, spread=self.spread)
        self._stood = depth + -(-sent // self._a_message)
        self._sent_at = now

    def lets_pass(self, *, depth: int, now: float) -> bool:
        """Return whether something urgent may be put before what stands in the queue.

        Not while what was put there last may still stand there: that would be overtaken by it.
        """
        return depth <= self._overtaken or now - self._urgent_at > AHEAD_SECONDS

    def note_urgent(self, *, depth: int, now: float) -> None:
        """Remember that something was put before a queue of this length."""
        self._overtaken, self._urgent_at = depth, now
