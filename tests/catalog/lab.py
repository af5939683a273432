"""Steps that misbehave on purpose, so that the tests can watch the engine cope."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import psycopg
from django.db import connection, connections, transaction
from pydantic import BaseModel, Field

from engine import heartbeat, leases
from engine.authoring import (
    ArtifactRef,
    NotSentError,
    Retry,
    StepContext,
    StepError,
    automation,
    department,
    step,
)

LAB = department("lab", title="Laboratory", purpose="Steps that misbehave on purpose")
QUICK = Retry(attempts=3, first_delay=0.05, factor=1.0, max_delay=0.05, jitter=0.0)


class NumbersInput(BaseModel):
    count: int = Field(default=3, ge=0, le=100_000)
    seconds: float = 0.0


class FolderInput(BaseModel):
    """A folder in which files steer the steps: what a test can change while a run goes on."""

    folder: str
    count: int = 3
    seconds: float = 0.0


@step(retry=QUICK)
def numbers(ctx: StepContext, count: int) -> list[int]:
    return list(range(count))


@step(retry=QUICK)
def square(ctx: StepContext, number: int, seconds: float) -> int:
    if seconds:
        time.sleep(seconds)
    return number * number


@step(retry=QUICK)
def total(ctx: StepContext, squares: list[int]) -> int:
    return sum(squares)


@automation("lab.squares", title="Sum of squares", input=NumbersInput)
def squares(inp):
    """Fan out, square, sum."""
    found = square.partial(seconds=inp.seconds).map(number=numbers(count=inp.count))
    return total(squares=found)


def note_in_ledger(ctx: StepContext) -> None:
    """Write one row per committed execution: doubled effects violate its unique key."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO lab_ledger (run_id, step, map_index) VALUES (%s, %s, %s)",
            [ctx.run_id, ctx.step, -1 if ctx.map_index is None else ctx.map_index],
        )


@step(retry=QUICK)
def book(ctx: StepContext, number: int, seconds: float) -> int:
    if seconds:
        time.sleep(seconds)
    with ctx.transaction():
        note_in_ledger(ctx)
    return number


@automation("lab.booking", title="Effects, exactly once", input=NumbersInput)
def booking(inp):
    """Fan out; every item writes one ledger row in its completion transaction."""
    return total(squares=book.partial(seconds=inp.seconds).map(number=numbers(count=inp.count)))


@step(retry=QUICK)
def first(ctx: StepContext, folder: str) -> str:
    _mark(folder, "first")
    return folder


@step(retry=QUICK)
def fragile(ctx: StepContext, folder: str) -> str:
    """Fail until the file `mended` exists."""
    _mark(folder, "fragile")
    if not (Path(folder) / "mended").exists():
        raise StepError("broken", "The folder is not mended yet.")
    return folder


@step(retry=QUICK)
def last(ctx: StepContext, folder: str) -> str:
    _mark(folder, "last")
    return "done"


@automation("lab.fragile", title="Fails until mended", input=FolderInput)
def fragile_chain(inp):
    """Run three steps of which the second fails until somebody mends it."""
    return last(folder=fragile(folder=first(folder=inp.folder)))


@automation("lab.fragile_fail", title="Fails for good", input=FolderInput, on_dead="fail")
def fragile_fail(inp):
    """Fail the run when the second step is dead."""
    return last(folder=fragile(folder=first(folder=inp.folder)))


@step(retry=QUICK)
def kill_worker(ctx: StepContext, folder: str) -> str:
    """End the process that runs this, until the file `mended` exists."""
    _mark(folder, "kill_worker")
    if not (Path(folder) / "mended").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return folder


@automation("lab.poison", title="Ends its worker", input=FolderInput)
def poison(inp):
    """Kill the worker that runs it."""
    return last(folder=kill_worker(folder=inp.folder))


@step(retry=QUICK, timeout=600)
def patient(ctx: StepContext, folder: str, seconds: float) -> str:
    """Work in small portions, with a checkpoint after each."""
    _mark(folder, "patient")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ctx.checkpoint()
        time.sleep(0.02)
    return folder


@automation("lab.patient", title="Long, with checkpoints", input=FolderInput)
def patient_chain(inp):
    """Take its time, cooperatively."""
    return last(folder=patient(folder=inp.folder, seconds=inp.seconds))


@step(retry=QUICK, timeout=600)
def stubborn(ctx: StepContext, folder: str, seconds: float) -> str:
    """Work without ever looking whether it should stop."""
    _mark(folder, "stubborn")
    time.sleep(seconds)
    _mark(folder, "stubborn_finished")
    return folder


@automation("lab.stubborn", title="Never looks up", input=FolderInput)
def stubborn_chain(inp):
    """Ignore every wish to stop."""
    return last(folder=stubborn(folder=inp.folder, seconds=inp.seconds))


@step(retry=Retry(attempts=2, first_delay=0.05, max_delay=0.05), timeout=0.5)
def too_slow(ctx: StepContext, folder: str) -> str:
    """Outlast the timeout."""
    _mark(folder, "too_slow")
    time.sleep(60)
    return folder


@automation("lab.too_slow", title="Outlasts its timeout", input=FolderInput)
def too_slow_chain(inp):
    """Time out."""
    return last(folder=too_slow(folder=inp.folder))


TWICE = Retry(attempts=2, first_delay=0.05, max_delay=0.05)


@step(retry=TWICE, timeout=2)
def hung(ctx: StepContext, folder: str) -> str:
    """Wait for ever, or until the file `freed` exists."""
    _mark(folder, "hung")
    _wait_for(Path(folder) / "freed")
    return folder


@automation("lab.hung", title="Hangs", input=FolderInput)
def hung_chain(inp):
    """Hang beyond the timeout."""
    return last(folder=hung(folder=inp.folder))


@step(retry=TWICE, timeout=600, progress_within=0.5)
def still(ctx: StepContext, folder: str) -> str:
    """Get on for a while, then stand still until the file `freed` exists."""
    _mark(folder, "still")
    for done in range(10):
        ctx.progress(done, 200)
        time.sleep(0.1)
    _wait_for(Path(folder) / "freed")
    return folder


@automation("lab.still", title="Stands still", input=FolderInput)
def still_chain(inp):
    """Hang without a sign of progress."""
    return last(folder=still(folder=inp.folder))


@step(retry=TWICE, timeout=2)
def frozen(ctx: StepContext, folder: str) -> str:
    """At first hang in a process whose clock no longer brings the deadline nearer; then not."""
    if ctx.attempt == 1:
        heartbeat.heart._watch.deadline = math.inf
        (Path(folder) / "pid").write_text(str(os.getpid()))
        _wait_for(Path(folder) / "freed")
    return folder


@automation("lab.frozen", title="Hangs while its clock stands still", input=FolderInput)
def frozen_chain(inp):
    """Hang once where only the database can tell."""
    return last(folder=frozen(folder=inp.folder))


def _wait_for(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.02)


@step(retry=QUICK)
def rude(ctx: StepContext) -> int:
    """Query outside the transaction, which a pure step must not."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return 1


@automation("lab.rude", title="Queries where it must not", input=NumbersInput)
def rude_chain(inp):
    """Break the rule of pure steps."""
    return rude()


@step
def large(ctx: StepContext, count: int) -> list[str]:
    """Return more than fits inline."""
    ctx.warn("large", "This result is large.", count=count)
    return ["x" * 100] * count


@step
def measure(ctx: StepContext, texts: list[str]) -> int:
    return sum(map(len, texts))


@automation("lab.large", title="Large values", input=NumbersInput)
def large_chain(inp):
    """Pass a large value on."""
    return measure(texts=large(count=inp.count))


@step(retry=QUICK)
def crash_with_secret(ctx: StepContext) -> int:
    raise ValueError("password=hunter2")


@automation("lab.secret", title="Raises a secret", input=NumbersInput)
def secret_chain(inp):
    """Raise an exception whose text must not be stored."""
    return crash_with_secret()


def _mark(folder: str, word: str) -> None:
    """Count an execution of a step: one line a time."""
    with (Path(folder) / f"{word}.log").open("a") as file:
        file.write("x\n")


class AnythingInput(BaseModel):
    anything: Any = None


@step(retry=QUICK)
def odd(ctx: StepContext, anything: Any) -> str:
    """Say things that a database cannot store."""
    if anything == "warn":
        ctx.warn("odd", "nul \x00", number=float("nan"), when=time.gmtime)
        return "warned"
    raise StepError("odd", "nul\x00, half \ud800" + "!" * 5000, permanent=True)


@automation("lab.odd", title="Unstorable words", input=AnythingInput)
def odd_chain(inp):
    """Pass anything on."""
    return odd(anything=inp.anything)


class ModeInput(BaseModel):
    mode: str = "good"


@step(retry=QUICK)
def writer(ctx: StepContext, mode: str) -> ArtifactRef:
    """Write in the completion transaction, and then go wrong in the way that is asked for."""
    note = ctx.artifacts.save("note.txt", b"hello", "text/plain")
    if mode == "lose_claim":
        _lose_claim(ctx)
    with ctx.transaction():
        note_in_ledger(ctx)
        if mode == "bad_sql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT nothing FROM nowhere")
        if mode == "lose_connection" and ctx.attempt == 1:
            _end_own_connection()
    if mode == "twice":
        with ctx.transaction():
            pass
    if mode == "fail_after":
        raise StepError("after", "Failed after its writes.", permanent=True)
    return note


def _lose_claim(ctx: StepContext) -> None:
    """Do what the reaper does when the lease has run out, from another connection."""
    statement = "UPDATE engine_lease SET expires_at = '2000-01-01'"
    with psycopg.connect(_dsn(), autocommit=True) as other:
        other.execute(statement)

    def reap() -> None:
        leases.reap(limit=10)
        connections.close_all()

    thread = threading.Thread(target=reap)
    thread.start()
    thread.join()


def _end_own_connection() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    with psycopg.connect(_dsn(), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [pid])
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _dsn() -> str:
    values = connection.settings_dict
    return psycopg.conninfo.make_conninfo(
        dbname=values["NAME"], user=values["USER"], host=values["HOST"], password=values["PASSWORD"]
    )


@automation("lab.writer", title="Writes, and then", input=ModeInput)
def writer_chain(inp):
    """Write one row."""
    return writer(mode=inp.mode)


class OutsideInput(FolderInput):
    """An address to call; files in the folder say what goes wrong around the call, once each."""

    url: str
    idempotent: bool = False


@step(retry=QUICK)
def call_outside(ctx: StepContext, url: str, folder: str, idempotent: bool) -> Any:
    """Make one external effect, and go wrong where a file of the folder wants it."""

    def call(key: str) -> Any:
        if _once(folder, "refuse"):
            raise NotSentError("refused", "The other system refused the connection.")
        _die_once(folder, "before_call")
        request = urllib.request.Request(url, data=b"{}", headers={"Idempotency-Key": key})  # noqa: S310 - the test's own address
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
            receipt = json.load(answer)
        _die_once(folder, "after_call")
        if _once(folder, "break_after_call"):
            raise TimeoutError("password=hunter2")
        if _once(folder, "odd_receipt"):
            return float("nan")
        if _once(folder, "lose_claim"):
            _lose_claim(ctx)
        return receipt

    _mark(folder, "call_outside")
    _die_once(folder, "before_effect")
    receipt = ctx.effect("call", call, idempotent=idempotent)
    _die_once(folder, "after_effect")
    if _once(folder, "fail_after_effect"):
        raise StepError("after", "Failed after its effect.")
    return receipt


@automation("lab.outside", title="One call to the outside", input=OutsideInput)
def outside_chain(inp):
    """Call, then finish."""
    return call_outside(url=inp.url, folder=inp.folder, idempotent=inp.idempotent)


@step(retry=QUICK)
def misuse_effects(ctx: StepContext, mode: str) -> Any:
    """Use effects as they must not be used."""
    if mode == "in_transaction":
        with ctx.transaction():
            return ctx.effect("one", lambda key: key)
    if mode == "in_own_transaction":
        with transaction.atomic():
            return ctx.effect("one", lambda key: key)
    if mode == "after_transaction":
        with ctx.transaction():
            pass
    if mode == "nested":
        return ctx.effect("one", lambda _: ctx.effect("two", lambda key: key), idempotent=True)
    if mode == "transaction_inside":
        return ctx.effect("one", lambda _: ctx.transaction().__enter__(), idempotent=True)
    if mode == "twice":
        ctx.effect("one", lambda key: key)
    if mode == "swallow":
        return _swallow(ctx)
    return ctx.effect("" if mode == "nameless" else "one", lambda key: key)


def _swallow(ctx: StepContext) -> str:
    def call(key: str) -> None:
        raise OSError(key)

    with contextlib.suppress(BaseException):
        ctx.effect("one", call)
    return "swallowed"


@automation("lab.misuse_effects", title="Effects used wrongly", input=ModeInput)
def misuse_effects_chain(inp):
    """Break the rules of effects."""
    return misuse_effects(mode=inp.mode)


def _once(folder: str, word: str) -> bool:
    """Tell whether the file is there, and take it away."""
    try:
        (Path(folder) / word).unlink()
    except FileNotFoundError:
        return False
    return True


def _die_once(folder: str, word: str) -> None:
    """End this process for good (file `die_…`), or only this thread's work (file `exit_…`)."""
    if _once(folder, f"die_{word}"):
        os.kill(os.getpid(), signal.SIGKILL)
    if _once(folder, f"exit_{word}"):
        raise SystemExit(word)
