"""Find queued steps that nobody is going to begin: their message is lost, or stands in a long line.

Three parties can have a step that was sent: its queue, a worker that says it holds it, or nobody.
Between queue and word a message is in neither for a moment, so nobody is believed only when every
worker has spoken since; a word that has grown old is believed at once, its worker is gone.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from django.conf import settings

from engine import leases
from engine.causes import ReleaseReason
from engine.models import WorkerPresence
from orchestration import messages, presence, repairs, routing, streams
from orchestration.repairs import Repair

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestration.presence import Word

#: Queues longer than this many messages are not searched; the patience of their steps decides.
SEARCHED_MESSAGES = 2_000
#: Beyond this a queued step is sent again whatever its queue says, in seconds.
FINAL_PATIENCE_SECONDS = 300.0
#: A step that was stranded before is looked at again after this many seconds at most.
STRANDED_PATIENCE_SECONDS = 15.0
#: A worker that had nothing speaks within a second of getting something; with as much to spare.
SURE_SECONDS = 1.5
#: What a dead worker last said is evidence for so long; then its steps have long been sent again.
EVIDENCE_SECONDS = 10.0
#: How often stranded steps are handed back: a word says for a second how many processes are idle.
SHARE_SECONDS = 1.0
#: Words that took longer to read come from a Redis that stood still, and so did the workers.
SLOW_SECONDS = 0.5


class Hands:
    """What the workers of one moment hold, by what they said."""

    def __init__(self, now: float, words: Sequence[Word]) -> None:
        """Sort the words of workers that have not left, as of `now` by the clock of Redis."""
        self.now = now
        ages = [(now - word.at, word) for word in words]
        self.online = [word for age, word in ages if age <= WorkerPresence.ONLINE_SECONDS]
        self.fresh = [word for age, word in ages if age <= presence.FRESH_SECONDS]
        self.held = [step for word in self.fresh for step in word.held]
        #: What workers held that have fallen silent since.
        self.dropped = {
            step
            for age, word in ages
            if presence.FRESH_SECONDS < age <= EVIDENCE_SECONDS
            for step in word.held
        }

    def serve(self, queue: str) -> bool:
        """Return whether any worker may have fetched from the queue just now."""
        return any(queue in word.queues for word in self.online)

    def are_cut(self, queue: str) -> bool:
        """Return whether a worker of the queue holds more than it can say."""
        return any(word.cut for word in self.fresh if queue in word.queues)

    def spoke_after(self, moment: float, queue: str) -> bool:
        """Return whether each worker of the queue that has work has said so since `moment`.

        One that had none speaks at once when it gets some, with SURE_SECONDS to spare.
        """
        return self.now - moment > SURE_SECONDS and all(
            word.at > moment for word in self.fresh if word.has_work and queue in word.queues
        )

    def free(self, queue: str) -> int:
        """Return how many processes wait for work of the queue."""
        return sum(word.free for word in self.online if queue in word.queues)


class LostMessages:
    """Compare what is overdue with what workers say and what queues hold."""

    def __init__(self) -> None:
        #: Step -> when it was first found with nobody, on the clock of Redis.
        self._missing: dict[int, float] = {}
        self._wait_until = 0.0
        #: The time by Redis when it was last asked.
        self._asked_at = 0.0
        self._shared_at = 0.0

    def hand_back(self) -> int:
        """Make ready again what is lost or stranded; return how many steps that were."""
        began = time.monotonic()
        now, words = presence.said(streams.client())
        was_set_back, self._asked_at = now < self._asked_at, now
        if was_set_back or time.monotonic() - began > SLOW_SECONDS:
            self.settle()
        if time.monotonic() < self._wait_until:
            self._missing.clear()
            return 0
        hands = Hands(now, [word for word in words.values() if word and not word.leaving])
        return self._lost(hands) + self._stranded(hands)

    def settle(self) -> None:
        """Let the workers speak again before their silence counts: they could not either."""
        self._wait_until = time.monotonic() + presence.FRESH_SECONDS

    def _lost(self, hands: Hands) -> int:
        """Hand back what is overdue and neither in its queue nor in anybody's hands."""
        overdue = leases.queued_too_long(
            older_than_seconds=settings.LOST_MESSAGE_SECONDS, held=hands.held
        )
        still_missing: dict[int, float] = {}
        final: dict[str, list[int]] | None = None
        returned = 0
        for queue, ids in overdue.items():
            absent = None if hands.are_cut(queue) else missing(queue=queue, step_run_ids=ids)
            if absent is None:
                if final is None:
                    final = leases.queued_too_long(
                        older_than_seconds=FINAL_PATIENCE_SECONDS, held=hands.held
                    )
                lost = final.get(queue, [])
            else:
                lost = [step for step in absent if self._is_lost(step, queue, hands)]
                still_missing |= {
                    step: self._missing.get(step, hands.now)
                    for step in set(absent).difference(lost)
                }
            if lost:
                moved = leases.hand_back(step_run_ids=lost, reason=ReleaseReason.MESSAGE_LOST)
                returned += repairs.note(Repair.MESSAGES, moved, queue=queue)
        self._missing = still_missing
        return returned

    def _stranded(self, hands: Hands) -> int:
        """Hand back what waits in a busy worker's hands while another process waits for work.

        Not more than the idle ones take at once: what stays keeps its place in the line.
        """
        idle = {queue: hands.free(queue) for word in hands.online for queue in word.queues}
        is_shared = time.monotonic() - self._shared_at < SHARE_SECONDS
        if is_shared or not hands.held or not any(idle.values()):
            return 0
        waiting = leases.queued_too_long(
            older_than_seconds=settings.LOST_MESSAGE_SECONDS,
            most_seconds=STRANDED_PATIENCE_SECONDS,
            among=hands.held,
        )
        returned = 0
        for queue, ids in waiting.items():
            room = idle.get(queue, 0) * routing.MAX_STEPS_PER_MESSAGE
            overdue = set(ids)
            first = [step for step in hands.held if step in overdue][:room]
            if first:
                moved = leases.hand_back(step_run_ids=first, reason=ReleaseReason.STRANDED)
                returned += repairs.note(Repair.STRANDED, moved, queue=queue)
        if returned:
            self._shared_at = time.monotonic()
        return returned

    def _is_lost(self, step: int, queue: str, hands: Hands) -> bool:
        if step in hands.dropped or not hands.serve(queue):
            return True
        since = self._missing.get(step)
        return since is not None and hands.spoke_after(since, queue)


def missing(*, queue: str, step_run_ids: Sequence[int]) -> list[int] | None:
    """Return which of these StepRuns no message in the queue names; None when it is too long.

    The truth about the queue, not a guess from its length: a message behind a long step is not
    lost.
    """
    depth = streams.depth(queue)
    if depth == 0:
        return list(step_run_ids)
    if depth > SEARCHED_MESSAGES:
        return None
    named: set[int] = set()
    for message in streams.waiting(queue, limit=SEARCHED_MESSAGES):
        named.update(messages.step_run_ids(message))
    return [found for found in step_run_ids if found not in named]
