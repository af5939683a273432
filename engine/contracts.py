"""What the engine and the author of a step promise each other: values and protocols only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from uuid import UUID


class ArtifactRef(BaseModel):
    """Name a stored file by its content: the bytes behind a reference never change."""

    model_config = ConfigDict(frozen=True)

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the content, hex")
    name: str = Field(max_length=255, description="File name shown to people")
    size: int = Field(ge=0, description="Bytes")
    media_type: str = Field(default="application/octet-stream", max_length=100)


class ArtifactStore(Protocol):
    """Save and read files from inside a step."""

    def save(self, name: str, content: bytes | BinaryIO, media_type: str) -> ArtifactRef:
        """Store the content now; its row on the run is written when the step completes."""
        ...

    def open(self, ref: ArtifactRef) -> BinaryIO:
        """Open the stored content for reading; raises `StepError` when it is gone."""
        ...

    def read(self, ref: ArtifactRef) -> bytes:
        """Read the whole content into memory."""
        ...


class StepContext(Protocol):
    """What a running step sees of the engine."""

    run_id: UUID
    step: str
    map_index: int | None
    attempt: int
    #: `run:step:index`, the same on every attempt: hand it to other systems as idempotency key.
    effect_key: str
    #: The trace of who asked for the run, for calls to others (W3C Trace Context); "" for none.
    traceparent: str
    #: A logger whose lines name run, step and attempt. Values of fields that are on no list
    #: (config/logs/fields.py, LOG_FIELDS) are hidden: they may be payload.
    log: Any
    artifacts: ArtifactStore

    def checkpoint(self) -> None:
        """Stop here if the run was cancelled. Call it in long loops: at most one query a second.

        Also a sign of progress, see `progress`.
        """

    def progress(self, done: int, total: int | None = None) -> None:
        """Say that the step gets on, for a step that declares `progress_within`. Costs no query.

        The numbers go to the log with the next renewal of the lease.
        """

    def warn(self, code: str, message: str, **data: Any) -> None:
        """Leave a remark on the run's history, written together with the step's result."""

    def transaction(self) -> AbstractContextManager[None]:
        """Open the completion transaction: the only place where a step may use the database.

        Guarded first (a step that lost its claim writes nothing), committed together with the
        result when the step returns, at most 10 seconds long, at most once in a step. An error
        that leaves the block rolls it back, also when the step goes on.
        """
        ...

    def effect(self, name: str, call: Callable[[str], Any], *, idempotent: bool = False) -> Any:
        """Do one thing outside the database (a mail, an HTTP POST) and return its receipt.

        call: takes the key (`effect_key:name`, the same on every attempt), does the thing, returns
        what is to be remembered of the answer as JSON of at most 16 KiB, or None; no secrets in it.
        It is written down before it is called and again when it has answered: once it has, no
        later attempt calls it again, each is given the same receipt.
        idempotent: the other system drops a second call with the same key. Then a call whose answer
        was lost is made again with that key; otherwise the step waits for an operator's word.

        `call` raises NotSentError when the thing certainly did not happen; any other error of it
        leaves the outcome unknown. One name once in a step; not while `transaction()` is open; as
        at a checkpoint, a cancelled run stops here.
        """
        ...
