"""The bodies of `POST /runs` and `PATCH /runs/{id}`: what may be asked of a run."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

from django.utils import timezone
from pydantic import AfterValidator, Field, StringConstraints

from engine import registry, runs
from engine.access import scopes
from engine.api import permissions, principal
from engine.api.changes import Change, no_default
from engine.api.problems import RequestInvalid
from engine.api.requests import WHOLE, Instant, Moment, Strict, Word
from engine.errors import UnknownAutomationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rest_framework.request import Request

MAX_TAGS = 50
#: Further ahead than this a deadline is a mistake; at the calendar's ends no clock can show it.
MAX_DEADLINE = timedelta(days=3660)


def _ahead(moment: datetime) -> datetime:
    """Refuse a deadline that has passed already or lies absurdly far ahead."""
    now = timezone.now()
    if not now < moment <= now + MAX_DEADLINE:
        raise ValueError(f"must lie ahead, at most {MAX_DEADLINE.days} days")
    return moment


def _of_a_caller(key: str) -> str:
    """Refuse a key that a schedule, a hook or the stream would use: its run would not start."""
    if key.startswith(runs.RESERVED_KEYS):
        raise ValueError(f"must not begin with {' or '.join(runs.RESERVED_KEYS)}")
    return key


DedupeKey = Annotated[
    str,
    StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00]*$"),
    AfterValidator(_of_a_caller),
]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00]*$")]


Deadline = Annotated[Instant, AfterValidator(_ahead)]
Priority = Annotated[int, Field(strict=True, ge=runs.PRIORITIES[0], le=runs.PRIORITIES[-1]), WHOLE]
Tags = Annotated[list[Tag], Field(max_length=MAX_TAGS)]
Window = Annotated[int, Field(strict=True, ge=1, le=runs.MAX_WINDOW_SECONDS), WHOLE]


class RunRequest(Strict):
    """What to run, with what."""

    automation: Word = Field(description="e.g. finance.cashflow_report")
    input: dict[str, Any] = Field(default={}, description="By the automation's input schema")
    dedupe_key: DedupeKey | None = Field(
        default=None,
        description=(
            "The same key starts no second run of the automation. Keys that begin with "
            f"{', '.join(f'`{prefix}`' for prefix in runs.RESERVED_KEYS)} are the engine's own"
        ),
    )
    window: Window | None = Field(
        default=None,
        description=(
            "Seconds for which a run keeps its `dedupe_key`; null for good. One that is older does "
            "not count: the key starts a new run"
        ),
    )
    until_terminal: Annotated[bool, Field(strict=True)] = Field(
        default=False,
        description="A run that has ended does not count: its `dedupe_key` starts a new one",
    )
    correlation_id: Annotated[str, StringConstraints(max_length=100, pattern=r"^[^\x00]*$")] = ""
    priority: Priority = Field(default=0, description="Higher goes first")
    tags: Tags = []
    # Whether it lies ahead is judged when the run is started: a request that is sent again under
    # its key is answered as it was, however late it is.
    deadline_at: Moment | None = Field(
        default=None, description="With its offset, ahead; the run is ended when this has passed"
    )

    @property
    def unsaid(self) -> set[str]:
        """Return the later fields that the request leaves out."""
        return {"window", "until_terminal"} - self.model_fields_set

    @property
    def fingerprinted(self) -> dict[str, Any]:
        """Return what makes the same request under an Idempotency-Key, of any version of this one.

        A field that came later counts only when it says something: what was asked before it was
        there is still the same.
        """
        asked = self.model_dump(mode="json", exclude=self.unsaid)
        return asked | {"deadline_at": self.deadline_at and self.deadline_at.timestamp()}

    def require_sound_key(self) -> None:
        """Refuse a policy for a key without the key, and two policies at once."""
        errors = []
        if self.window is not None and self.until_terminal:
            errors.append(("/window", "not together with `until_terminal`"))
        if self.dedupe_key is None and (self.window is not None or self.until_terminal):
            errors.append(("/dedupe_key", "needed for `window` and `until_terminal`"))
        if errors:
            raise RequestInvalid(
                "; ".join(f"Field {place}: {reason}" for place, reason in errors), errors
            )

    def require_ahead(self) -> None:
        """Refuse a deadline that is not one."""
        if self.deadline_at is None:
            return
        try:
            _ahead(self.deadline_at)
        except ValueError as exc:
            reason = str(exc)
            pointer = "/deadline_at"
            raise RequestInvalid(f"Field {pointer}: {reason}", [(pointer, reason)]) from None


class RunChange(Change):
    """What may be changed of a run that has not ended; what is left out stays as it is."""

    priority: Priority = Field(
        default=0,
        description="Higher goes first; steps that wait move",
        json_schema_extra=no_default,
    )
    tags: Tags = Field(
        default=[],
        description="All of them: these replace the run's",
        json_schema_extra=no_default,
    )
    deadline_at: Deadline | None = Field(
        default=None,
        description="With its offset; null takes the deadline away",
        json_schema_extra=no_default,
    )

    @property
    def changes(self) -> dict[str, Any]:
        """Return what the request names, and nothing else."""
        return {name: getattr(self, name) for name in self.model_fields_set}


def require_startable(
    request: Request, automation: str, needed: Sequence[str] = ("runs.write",)
) -> None:
    """Refuse an automation of a department in which the caller does not hold all that is needed.

    One whose department the caller may not even see is unknown, as one that does not exist is.
    """
    policy = principal.of(request).policy
    declared = registry.automations.get(automation)
    for scope in needed:
        held = policy.departments(scope)
        if not held:
            raise permissions.ScopeMissing(scope)
        if held.everywhere or (declared is not None and declared.department in held):
            continue
        if declared is not None and any(
            policy.allows(scopes.seen_by(one), declared.department) for one in needed
        ):
            raise permissions.ScopeMissing(scope, declared.department)
        reaches = [policy.departments(one) for one in needed]
        names = [
            name
            for name, found in registry.automations.items()
            if all(found.department in reach for reach in reaches)
        ]
        known = ", ".join(sorted(names)) or "none"
        message = f"There is no automation {automation!r}. Known: {known}."
        raise UnknownAutomationError(message, name=automation)
