"""The `ctx` of a running step: everything a step may do beside computing."""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO

import structlog
import uuid_utils.compat as uuids
from django.db import connection, transaction

from engine import artifacts, effects, outcomes, sql
from engine.errors import (
    CancelledError,
    ClaimLostError,
    NotFoundError,
    QueryOutsideTransactionError,
    StepError,
)
from engine.graph import UNMAPPED
from engine.transitions import claims
from engine.values import plain_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.batches import Batch
    from engine.contracts import ArtifactRef
    from engine.heartbeat import Watch
    from engine.tracing import Span
    from engine.transitions.claims import Claimed

#: `checkpoint` asks the database at most this often, in seconds.
CHECKPOINT_SECONDS = 1.0
#: Longest life of a completion transaction; PostgreSQL ends it after that.
TRANSACTION_SECONDS = 10
#: Remarks one step may leave; the last one then says that there were more.
MAX_WARNINGS = 200


class RunningContext:
    """Implement `contracts.StepContext` for one claimed step."""

    def __init__(self, step: Claimed, watch: Watch, batch: Batch, span: Span) -> None:
        self._claimed = step
        self._watch = watch
        self._batch = batch
        self._asked_at = time.monotonic()
        self._atomic: transaction.Atomic | None = None
        self._open = False
        #: Whether the connection broke under the transaction.
        self.connection_lost = False
        self.warnings: list[dict[str, Any]] = []
        self.run_id = step.run_id
        self.step = step.key
        self.map_index = None if step.map_index == UNMAPPED else step.map_index
        self.attempt = step.attempt
        self.effect_key = f"{step.run_id}:{step.key}:{step.map_index}"
        self.traceparent = span.traceparent or step.traceparent
        self.artifacts = StepArtifacts()
        self._effects = effects.StepEffects(step=step, prefix=self.effect_key, span=span)

    @cached_property
    def log(self) -> Any:
        """Return a logger that names the step; made when it is asked for."""
        return structlog.get_logger("step").bind(**self._claimed.logged)

    def checkpoint(self) -> None:
        """Raise CancelledError when the run was cancelled, ClaimLostError when fenced."""
        self._watch.advance()
        if self._watch.lost:
            raise ClaimLostError
        now = time.monotonic()
        if now - self._asked_at < CHECKPOINT_SECONDS or self._atomic is not None:
            return
        self._asked_at = now
        try:
            cancel = claims.held(step=self._claimed)
        except sql.CONNECTION_ERRORS:
            # Away for a moment: no reason to throw the work away. The completion has patience.
            connection.close()
            return
        if cancel is None:
            raise ClaimLostError
        if cancel:
            raise CancelledError

    def progress(self, done: int, total: int | None = None) -> None:
        """Note how far the step is (see `contracts.StepContext.progress`)."""
        self._watch.advance((done, total))

    def warn(self, code: str, message: str, **data: Any) -> None:
        """Leave a remark on the run's history, written with the step's result."""
        if len(self.warnings) < MAX_WARNINGS:
            self.warnings.append(plain_json({"code": code, "message": message, **data}))
        elif len(self.warnings) == MAX_WARNINGS:
            self.warnings.append({"code": "more_warnings", "message": "There were more remarks."})

    def effect(self, name: str, call: Callable[[str], Any], *, idempotent: bool = False) -> Any:
        """Do one thing outside the database (see `contracts.StepContext.effect`)."""
        # Any transaction, also one of the author's own: rolled back, it would take the note of the
        # call with it, and the next attempt would call again.
        if self._atomic is not None or connection.in_atomic_block:
            raise StepError(
                "effect_in_transaction",
                f"Make the effect {name!r} before any transaction: no call waits in it.",
                permanent=True,
            )
        # What is done outside is done by a step that everybody can see.
        self._batch.come_forward(ran_seconds=self._watch.ran_seconds)
        return self._effects.make(name, call, idempotent=idempotent)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Open the completion transaction (see `contracts.StepContext.transaction`)."""
        if self._effects.calling:
            raise StepError(
                "transaction_in_effect",
                "Open `ctx.transaction()` after the effect: no call waits in it.",
                permanent=True,
            )
        if self._atomic is not None:
            raise StepError(
                "second_transaction",
                "A step may open its completion transaction once.",
                permanent=True,
            )
        if connection.in_atomic_block:
            # The result would be committed, or rolled back, with the author's own transaction.
            raise StepError(
                "transaction_in_transaction",
                "Open `ctx.transaction()` outside of any other transaction.",
                permanent=True,
            )
        # What others have finished does not wait for this transaction, nor roll back with it.
        self._batch.flush()
        # Nothing is written yet: a database that is away now costs time, not the attempt.
        if not outcomes.persistently(self._begin):
            raise ClaimLostError
        self._open = True
        try:
            yield
        except BaseException as exc:
            # Whatever the step makes of its error: what it had written is undone.
            self._open = False
            self.connection_lost = sql.is_connection_lost()
            self.close(exc)
            raise
        finally:
            self._open = False

    def _begin(self) -> bool:
        """Open the transaction, guard first: False for a step that lost its claim."""
        atomic = transaction.atomic()
        atomic.__enter__()
        self._atomic = atomic
        try:
            sql.count(f"SET LOCAL idle_in_transaction_session_timeout = '{TRANSACTION_SECONDS}s'")
            sql.count(f"SET LOCAL statement_timeout = '{TRANSACTION_SECONDS}s'")
            return claims.held(step=self._claimed, lock=True) is not None
        except BaseException as exc:
            self.close(exc)
            raise

    @property
    def writing(self) -> bool:
        """Whether the step has opened its transaction."""
        return self._atomic is not None

    def close(self, error: BaseException | None) -> None:
        """Commit the completion transaction, or roll it back when there is an error."""
        atomic, self._atomic = self._atomic, None
        if atomic is not None:
            kind = type(error) if error is not None else None
            raw = connection.connection
            try:
                atomic.__exit__(kind, error, error.__traceback__ if error is not None else None)
            except sql.CONNECTION_ERRORS:
                # Asked of this connection: when its COMMIT fails Django at once opens another.
                self.connection_lost = raw is None or raw.closed
                raise

    @contextmanager
    def guarded_queries(self) -> Iterator[None]:
        """Refuse the body's queries unless its transaction is open."""

        def refuse(execute: Callable[..., Any], *arguments: Any) -> Any:
            if self._open:
                return execute(*arguments)
            raise QueryOutsideTransactionError(
                "A step may use the database only inside `with ctx.transaction():`."
            )

        with connection.execute_wrapper(refuse):
            yield


class StepArtifacts:
    """Save and read files from inside a step; rows follow with the completion."""

    def __init__(self) -> None:
        self.saved: list[dict[str, Any]] = []

    def save(self, name: str, content: bytes | BinaryIO, media_type: str) -> ArtifactRef:
        """Store the content now; a crash before the completion leaves only an unnamed file."""
        ref = artifacts.put(name=name, content=content, media_type=media_type)
        self.saved.append({"id": str(uuids.uuid7()), **ref.model_dump()})
        return ref

    def open(self, ref: ArtifactRef) -> BinaryIO:
        """Open stored content for reading."""
        try:
            return artifacts.open_content(sha256=ref.sha256)
        except NotFoundError as exc:
            raise StepError("artifact_gone", exc.message, permanent=True) from exc

    def read(self, ref: ArtifactRef) -> bytes:
        """Read the whole content into memory."""
        with self.open(ref) as file:
            return file.read()
