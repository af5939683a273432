"""What can go wrong, as the domain says it; interfaces translate these into HTTP, text or log."""

from __future__ import annotations

from typing import Any


class EngineError(Exception):
    """Root of every error raised on purpose: a stable code and a message safe to show."""

    code = "engine_error"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class GraphInvalidError(EngineError):
    """Refuse a graph: names the file, the automation and the step at fault."""

    code = "graph_invalid"


class InputInvalidError(EngineError):
    """Refuse an input; `problems` is a list of {"field": dotted path, "reason": text}."""

    code = "input_invalid"

    def __init__(self, message: str, *, problems: list[dict[str, str]]) -> None:
        super().__init__(message, problems=problems)
        self.problems = problems


class UnknownAutomationError(EngineError):
    """Name an automation or version that does not exist here."""

    code = "automation_unknown"


class NotFoundError(EngineError):
    """Name a row that does not exist."""

    code = "not_found"


class StateConflictError(EngineError):
    """Refuse a transition that is not legal from the actual state."""

    code = "state_conflict"

    def __init__(self, what: str, *, wanted: str, actual: str) -> None:
        super().__init__(f"{what} is {actual}; cannot {wanted}", actual=actual, wanted=wanted)
        self.actual = actual


class StepError(EngineError):
    """Fail a step: raised by authors. `permanent=True` ends it without a retry.

    `code` is a stable snake_case word, `message` is stored and shown to people: no secrets in it.
    """

    def __init__(self, code: str, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.permanent = permanent


class NotSentError(StepError):
    """Say of an effect's call that it certainly did not happen, e.g. the connection was refused.

    Raised by authors inside `ctx.effect`; the step is tried again and the call is made then.
    """


class QueryOutsideTransactionError(EngineError):
    """A step queried the database outside `ctx.transaction()`; pure steps must not."""

    code = "query_outside_transaction"


class ClaimLostError(BaseException):
    """The claim of the running step is gone: its late work must not be committed.

    Not an `Exception`, so that a step's `except Exception` cannot swallow it.
    """


class CancelledError(BaseException):
    """The run was cancelled; raised by `ctx.checkpoint()`, never to be swallowed by a step."""


class EffectUnknownError(BaseException):
    """The step waits for an operator's word about an effect: this attempt ends here, unfailed."""
