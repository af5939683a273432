"""Stable words for why something waits and why something was given back: pure, with their meaning.

Interfaces, history and people depend on the codes. Whoever adds one gives its meaning with it;
`tests/architecture/test_why.py` refuses a code that no case produces.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Code(StrEnum):
    """A stable code and, beside it, what it means to a person."""

    meaning: str

    def __new__(cls, code: str, meaning: str = "") -> Self:
        """Keep the meaning beside the code."""
        made = str.__new__(cls, code)
        made._value_ = code
        made.meaning = meaning
        return made


class WaitCause(Code):
    """Why a step or a run that has not ended is where it is."""

    DEPENDENCY = "dependency", "Steps before it have not ended."
    UPSTREAM_DEAD_LETTER = (
        "upstream_dead_letter",
        "A step before it failed for good; an operator requeues or discards it.",
    )
    BLOCKED = "blocked", "A step of the run failed for good; an operator requeues or discards it."
    RUN_PAUSED = "run_paused", "The run is paused; an operator resumes it."
    RUN_ENDING = "run_ending", "The run is being ended."
    DEPARTMENT_PAUSED = "department_paused", "The department is paused; an operator resumes it."
    BACKOFF = "backoff", "It failed and is tried again at a set time."
    SLEEPING = "sleeping", "It goes on at a set time."
    AWAITING = "awaiting", "It waits for an answer from outside and holds no worker."
    EFFECT_UNKNOWN = (
        "effect_unknown",
        "Whether its call to the outside was made is not known; an operator finds out.",
    )
    CONCURRENCY = "concurrency", "Its department has as many steps in flight as it may."
    NO_WORKER = "no_worker", "No worker consumes its queue."
    DISPATCH = "dispatch", "It is ready; the manager sends it."
    QUEUED = "queued", "It waits for a free worker, in the queue or in line before it."
    HELD = "held", "A worker has fetched it and begins it after others."
    RUNNING = "running", "A worker runs it."
    CANCELLING = "cancelling", "A worker runs it and was asked to stop."
    DEADLINE_PASSED = "deadline_passed", "It ran past its deadline; the manager ends the attempt."
    WORKER_SILENT = "worker_silent", "Its worker is silent; the manager ends the attempt."


class ReleaseReason(Code):
    """Why a step that was sent or held is ready again."""

    RUN_PAUSED = "run_paused", "Its run was paused."
    DEPARTMENT_PAUSED = "department_paused", "Its department was paused."
    MESSAGE_LOST = "message_lost", "No message in its queue names it and no worker holds it."
    STRANDED = "stranded", "It stood in a busy worker's line while another was idle."
    BROKER_LOST = "broker_lost", "The broker lost its memory after the step was sent."
    WORKER_LOST = "worker_lost", "The worker that held it was lost before it began."
    EFFECT_RESOLVED = "effect_resolved", "An operator answered what was unknown of its effect."
