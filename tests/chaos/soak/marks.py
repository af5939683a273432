"""What a step of the soak leaves behind for the verdict: side log, ledger, violations.

The side log is a file per process, appended to with one write: it survives kill -9 and tells that a
body ran, committed or not. The ledger is written inside the completion transaction.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from django.db import IntegrityError, connection

from engine.authoring import Retry, StepContext, StepError

FOLDER = "SOAK_FOLDER"
QUICK = Retry(attempts=3, first_delay=0.05, factor=2.0, max_delay=0.5, jitter=0.2)
TABLES = """
CREATE TABLE IF NOT EXISTS soak_ledger (run_id uuid, step text, map_index int, attempt int,
    at timestamptz DEFAULT clock_timestamp(), PRIMARY KEY (run_id, step, map_index));
-- The same rows again without any index: a doubled effect that the key above let pass shows here.
CREATE TABLE IF NOT EXISTS soak_tally (run_id uuid, step text, map_index int, attempt int);
"""


def index(ctx: StepContext) -> int:
    """Return the map index as the tables spell it."""
    return -1 if ctx.map_index is None else ctx.map_index


def began(ctx: StepContext) -> None:
    """Note that a body runs: at least once for every step that succeeds."""
    _append(f"side/{os.getpid()}.log", ctx)


def suffer(ctx: StepContext, trouble: str, times: int) -> None:
    """Get into trouble on the first `times` attempts: `fail`, `dead` at once, or `poison`."""
    if ctx.attempt > times:
        return
    if trouble == "poison":
        os.kill(os.getpid(), signal.SIGKILL)
    if trouble in {"fail", "dead"}:
        raise StepError("troubled", "As asked for.", permanent=trouble == "dead")


def rest(ctx: StepContext, seconds: float) -> None:
    """Take time, with a look at the wishes of others now and then."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(0.05, left))
        ctx.checkpoint()


def book(ctx: StepContext) -> None:
    """Write one row into both tables; a doubled one is noted where no rollback reaches."""
    values = [ctx.run_id, ctx.step, index(ctx), ctx.attempt]
    with ctx.transaction(), connection.cursor() as cursor:
        cursor.execute("INSERT INTO soak_tally VALUES (%s, %s, %s, %s)", values)
        try:
            cursor.execute(
                "INSERT INTO soak_ledger (run_id, step, map_index, attempt)"
                " VALUES (%s, %s, %s, %s)",
                values,
            )
        except IntegrityError as exc:
            _append("violations.log", ctx)
            raise StepError("doubled", "This effect was committed before.", permanent=True) from exc


def _append(name: str, ctx: StepContext) -> None:
    line = f"{ctx.run_id} {ctx.step} {index(ctx)} {ctx.attempt}\n".encode()
    path = Path(os.environ[FOLDER]) / name
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(file, line)
    finally:
        os.close(file)
