"""What this process holds under one claim: steps to begin, the one that runs, results to write.

Results of short bodies are written together (group commit), and the transaction that writes them
claims what the process goes on with (sticky). Nothing waits here for long: when a body outlasts
SHOW_SECONDS, the heartbeat's thread writes what is finished and hands back what has not begun.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

import structlog
from django.db import transaction

from engine import definitions, durations, metrics, outcomes, publishing, registry, spans, sql
from engine.graph import UNMAPPED
from engine.ports import Known
from engine.publishing import ReadyStep
from engine.transitions import claims, completions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.transitions.claims import Claimed
    from engine.transitions.completions import Completion, Finished

#: A result waits so long for others to be written with, and is written before a body that is
#: expected to take longer. In seconds.
GROUP_SECONDS = 0.05
#: After so much work nothing new is begun under the claim, and the rest is handed back: others wait
#: in the same queues, and another worker may be idle. In seconds.
SLICE_SECONDS = 0.1
#: A body that takes longer is shown as running, and is alone from then on. In seconds.
SHOW_SECONDS = 0.25

log = structlog.get_logger(__name__)


class Batch:
    """The StepRuns under one claim, in the order in which they are begun.

    Two threads use it: the one that runs the bodies, and the heartbeat's while a body runs.
    """

    def __init__(self, held: Sequence[Claimed], *, queue: str = "") -> None:
        """Hold what was claimed; `queue` is where it came from, "" to go on with nothing else."""
        self._claim = held[0].claim
        self._worker = held[0].worker
        self._queue = queue
        self._ends_at = time.monotonic() + SLICE_SECONDS
        self._lock = threading.RLock()
        self._waiting = deque(held)
        for version in {one.version_id for one in held}:
            # Once read it is kept; from here on no graph is asked of a database that may be away.
            outcomes.persistently(partial(definitions.graph, version))
        self._begun = 0
        self._current: Claimed | None = None
        self._shown = False
        self._finished: list[Finished] = []
        self._inputs = Known()

    def next(self) -> Claimed | None:
        """Return the step to begin now, or None when nothing is left to do here."""
        with self._lock:
            self._current = None
            if self._begun and time.monotonic() >= self._ends_at:
                self.flush()
                self._hand_back()
            if not self._waiting or _is_long(self._waiting[0]):
                self.flush()
            if not self._waiting:
                return None
            self._current = self._waiting.popleft()
            self._shown = self._current.begun
            self._begun += 1
            return self._current

    def known(self, step: Claimed) -> Known:
        """Return what the step, and those behind it, need not ask the database for."""
        with self._lock:
            if self._waiting and step.map_index != UNMAPPED and step.id not in self._inputs.items:
                self._inputs.read_items([step, *self._waiting])
            return self._inputs

    def finish(self, one: Finished) -> None:
        """Take the result of the current step, to be written with others or by the next flush."""
        with self._lock:
            self._current = None
            self._finished.append(one)
            if one.ended - self._finished[0].ended >= GROUP_SECONDS:
                self.flush()

    def flush(self) -> None:
        """Write what is finished; what that readies is sent, or begun here."""
        with self._lock:
            finished, self._finished = self._finished, []
            if finished:
                self._write(finished)

    def _write(self, finished: list[Finished]) -> None:
        """Write these results together; each by itself when the database refuses one of them."""
        try:
            completion: Completion = outcomes.persistently(
                lambda: self.complete(finished), known=lambda: self._known(finished)
            )
        except sql.CONNECTION_ERRORS:
            raise
        except Exception as exc:  # noqa: BLE001 - what cannot be written is that step's failure
            if len(finished) == 1:
                _fail(finished[0], exc, last=not self.open_ids(without=finished))
                return
            for position, one in enumerate(finished, start=1):
                self._finished = finished[position:]
                self._write([one])
            return
        self.accept(completion)
        done = completion.done
        if len(done) < len(finished):
            # A try that had no answer may have been written after all, before the one that had.
            earlier = outcomes.persistently(lambda: self._known(finished))
            if earlier is not None:
                self.accept(earlier)
                done |= earlier.done
        now = time.monotonic()
        for one in finished:
            spans.written(one, stands=one.step.id in done, ago_seconds=now - one.ended)
            if one.step.id not in done:
                # Not the step that runs now, whose name the log's context may hold.
                log.warning("late_write_refused", **one.step.logged)
            elif one.value is not None and one.step.map_index == UNMAPPED and self._waiting:
                self._inputs.results[one.step.run_id, one.step.key] = one.value
        metrics.steps_succeeded(one for one in finished if one.step.id in done)

    def complete(self, finished: Sequence[Finished]) -> Completion:
        """Write these results now, in the caller's transaction if one is open."""
        with self._lock:
            return completions.complete(
                claim=self._claim,
                finished=finished,
                open_ids=self.open_ids(without=finished),
                queue=self._queue,
                sticky=self._sticky(finished),
            )

    def accept(self, completion: Completion) -> None:
        """Go on with what a committed completion has claimed, and send the rest."""
        with self._lock:
            self._waiting.extend(completion.held)
        publishing.publish(completion.ready)

    def come_forward(self, *, ran_seconds: float, unless_locked: bool = False) -> bool:
        """Show the current step as running, alone: write and hand back everything else first.

        unless_locked: try again later, instead of waiting, while a transaction of the step's own
        holds its row. Returns whether it is shown.
        """
        with self._lock:
            self.flush()
            if self._shown or self._current is None:
                return True
            step = self._current
            waiting, self._waiting = self._waiting, deque()

            def forward() -> tuple[bool, list[tuple[int, str]]]:
                # One transaction: what is seen to be running is alone under its claim.
                with transaction.atomic():
                    rest = claims.hand_back(
                        step_run_ids=[one.id for one in waiting], claim=self._claim, last=False
                    )
                    shown = claims.show(
                        step=step, ran_seconds=ran_seconds, unless_locked=unless_locked
                    )
                    return shown, rest

            def known() -> tuple[bool, list[tuple[int, str]]] | None:
                shown = {
                    one.id
                    for one in claims.still_open(claim=self._claim, worker=self._worker)
                    if one.begun
                }
                rest = [(one.id, one.queue) for one in waiting]
                return (True, rest) if step.id in shown else None

            self._shown, rest = outcomes.persistently(forward, known=known)
            publishing.publish([ReadyStep(found, queue, alone=True) for found, queue in rest])
            return self._shown

    def open_ids(self, *, without: Sequence[Finished] = ()) -> list[int]:
        """Return what is held under the claim beside these."""
        with self._lock:
            held = [*self._waiting, *(one.step for one in self._finished)]
            if self._current is not None:
                held.append(self._current)
            leaving = {one.step.id for one in without}
            return [one.id for one in held if one.id not in leaving]

    def _hand_back(self) -> None:
        """Give back what has not begun, and send it again.

        What a completion has claimed alone is shown as running already: it is begun here, however
        late it is.
        """
        ids = [one.id for one in self._waiting if not one.begun]
        self._waiting = deque(one for one in self._waiting if one.begun)
        if not ids:
            return
        last = not self.open_ids()
        rest: list[tuple[int, str]] = outcomes.persistently(
            lambda: claims.hand_back(step_run_ids=ids, claim=self._claim, last=last)
        )
        # As many to a message as end within a slice, by what those before them took.
        seconds = (time.monotonic() - self._ends_at + SLICE_SECONDS) / self._begun
        spread = math.ceil(len(rest) * seconds / SLICE_SECONDS)
        publishing.publish([ReadyStep(found, queue) for found, queue in rest], spread=spread)

    def _sticky(self, finished: Sequence[Finished]) -> dict[int, str]:
        """Return, by finished step, the successor to go on with: one each, for a slice of time."""
        if not self._queue or time.monotonic() >= self._ends_at:
            return {}
        beside_others = len(finished) > 1 or bool(self._waiting)
        found = {}
        for one in finished:
            graph = definitions.graph(one.step.version_id)
            for key in one.successors:
                node = graph.by_key[key]
                if node.mapped:
                    continue
                slow = beside_others and (durations.expected(step=node.step) or 0) > GROUP_SECONDS
                if not slow:
                    found[one.step.id] = key
                break
        return found

    def _known(self, finished: Sequence[Finished]) -> Completion | None:
        """Return what became of a completion whose answer was lost, None when nothing did."""
        ids = [one.step.id for one in finished]
        done = claims.succeeded_before(step_run_ids=ids, claim=self._claim)
        if not done:
            return None
        # What it readied and did not claim is sent again by the manager, which misses the message.
        return completions.Completion(frozenset(done), [], self._joined())

    def rejoin(self) -> None:
        """Go on with what a completion has claimed without our knowing it: its answer was lost."""
        with self._lock:
            self._current = None
            found: list[Claimed] = outcomes.persistently(self._joined)
            self._waiting.extend(found)

    def _joined(self) -> list[Claimed]:
        """Return what is held under the claim and not known here."""
        known = set(self.open_ids())
        found = claims.still_open(claim=self._claim, worker=self._worker)
        return [one for one in found if one.id not in known]


def _fail(one: Finished, error: Exception, *, last: bool) -> None:
    """Let a step fail whose result the database refuses."""
    step = one.step
    graph = definitions.graph(step.version_id)
    retry = registry.limits(kind=step.kind, step=graph.by_key[step.key].step).retry
    ran = time.monotonic() - one.began
    with structlog.contextvars.bound_contextvars(**step.logged):
        code, outcome = outcomes.fail(step, graph, retry, error, ran_seconds=ran, last=last)
    one.span.end({"step.outcome": outcome}, error=code)


def _is_long(step: Claimed) -> bool:
    """Tell whether a body is not known to be short: what is finished must not wait for it."""
    if step.kind == "map":
        return True
    node = definitions.graph(step.version_id).by_key[step.key]
    seconds = durations.expected(step=node.step)
    return seconds is None or seconds > GROUP_SECONDS
