"""Seal committed records into the chain, in batches; the manager calls this, nobody waits for it.

Ids are no order of commits: a long transaction commits low ids late. A batch therefore goes by
transaction numbers. `pg_snapshot_xmin` is the lowest that is still open: every record of a lower
one is committed and visible, or never will be. What is below is sealed, what is not waits.

A restored database counts its transactions anew. What that hides is found by a sweep over all
records when a manager begins to seal. A record is never sealed twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import connection, transaction

from engine import sql
from engine.audit import canonical
from engine.postgresql import roles

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

#: Most records of one seal: its row stays small, and so does the time for which it is computed.
BATCH = 500
#: Records the sweep looks at in one turn.
PAGE = 2000

#: Whoever holds it until its transaction ends is the only one that adds to the chain.
LOCK = "SELECT pg_advisory_xact_lock(%(key)s)"
LOCK_KEY = 0x0A0D_175E
LAST = "SELECT number, digest, horizon FROM engine_auditseal ORDER BY number DESC LIMIT 1"
# Whether a record is sealed is looked up by an index that can be read as a bitmap only, which the
# manager's sessions avoid. The plans are made within this, and kept: they must not read all seals.
PLANS = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = on"
HORIZON = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS horizon"
UNSEALED = "NOT EXISTS (SELECT 1 FROM engine_auditseal s WHERE s.record_ids @> ARRAY[r.id])"
COLUMNS = ", ".join(f"r.{name}" for name in canonical.MEMBERS)
# Horizon and records are of one snapshot.
FINAL = sql.compact(f"""
WITH here AS MATERIALIZED (
    SELECT clock_timestamp() AS now,
        pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS horizon)
SELECT here.now, here.horizon, {COLUMNS}
FROM here LEFT JOIN LATERAL (
    SELECT * FROM engine_auditrecord r
    WHERE (r.transaction_id, r.id) > (%(since)s, %(id)s) AND r.transaction_id < here.horizon
      AND {UNSEALED}
    ORDER BY r.transaction_id, r.id LIMIT %(limit)s) r ON true
ORDER BY r.transaction_id, r.id
""")  # noqa: S608 - constants of this package
# A number that this server has not given yet was another server's: its transaction is over.
LEFT_OUT = sql.compact(f"""
WITH here AS MATERIALIZED (
    SELECT clock_timestamp() AS now,
        pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS ahead),
page AS MATERIALIZED (
    SELECT * FROM engine_auditrecord WHERE id > %(after)s ORDER BY id LIMIT %(page)s)
SELECT here.now, (SELECT max(id) FROM page) AS last, {COLUMNS}
FROM here LEFT JOIN LATERAL (
    SELECT * FROM page r
    WHERE (r.transaction_id < %(since)s OR r.transaction_id >= here.ahead) AND {UNSEALED}
    ORDER BY r.id LIMIT %(limit)s) r ON true
ORDER BY r.id
""")  # noqa: S608 - constants of this package
ADD = """
INSERT INTO engine_auditseal (number, at, record_ids, record_digests, digest, previous, horizon)
VALUES (%(number)s, %(at)s, %(ids)s::bigint[], %(digests)s::varchar[], %(digest)s, %(previous)s,
    %(horizon)s)
"""


class _Link(NamedTuple):
    """The end of the chain."""

    number: int
    digest: str
    horizon: int


class Sealer:
    """Add to the chain, from where it ends; remembers how far it has looked."""

    def __init__(self) -> None:
        #: (transaction, id): every record up to here is sealed, or the sweep will come to it.
        self._since: tuple[int, int] | None = None
        #: What the sweep goes by, and the last id it has looked at; None when it is over.
        self._below = 0
        self._swept: int | None = 0

    def turn(self) -> bool:
        """Seal a batch of what is new, else a page of what was left out; tell if there is more."""
        with transaction.atomic():
            plan_look_ups()
            sql.rows(LOCK, {"key": LOCK_KEY})
            last = _last()
            if self._since is None:
                # A chain that has come further than this server counts is another server's.
                self._below = min(last.horizon, int(sql.rows(HORIZON)[0].horizon))
                since = (self._below, 0)
            else:
                since = self._since
            more, reached = self._seal(last, since)
            if not more and self._swept is not None:
                swept = self._sweep(_last(), self._swept)
            else:
                swept = self._swept
        # Only what is committed is remembered.
        self._since, self._swept = reached, swept
        return more

    @staticmethod
    def _seal(last: _Link, since: tuple[int, int]) -> tuple[bool, tuple[int, int]]:
        rows = sql.rows(FINAL, {"since": since[0], "id": since[1], "limit": BATCH})
        reached: tuple[int, int] = (rows[0].horizon, 0)
        found = [row for row in rows if row.id is not None]
        if len(found) == BATCH:
            # Of its last transaction more may be left.
            reached = (found[-1].transaction_id, found[-1].id)
        if found:
            _add(last, found, at=rows[0].now, horizon=reached[0])
        return len(found) == BATCH, reached

    def _sweep(self, last: _Link, after: int) -> int | None:
        given = {"since": self._below, "after": after, "page": PAGE, "limit": BATCH}
        rows = sql.rows(LEFT_OUT, given)
        found = [row for row in rows if row.id is not None]
        if found:
            _add(last, found, at=rows[0].now, horizon=last.horizon)
        if len(found) == BATCH:
            return after  # the rest of the same page
        end: int | None = rows[0].last
        return end


def is_owned() -> bool:
    """Tell whether the role in use could change the trail: as its owner, or by its rights."""
    found = sql.rows(roles.OWNS)
    return bool(found and found[0].owns)


def plan_look_ups() -> None:
    """Let this transaction look records up among the seals, however few these still are."""
    with connection.cursor() as cursor:
        cursor.execute(PLANS)


def _last() -> _Link:
    found = sql.rows(LAST)
    if not found:
        return _Link(0, canonical.GENESIS, 0)
    return _Link(found[0].number, found[0].digest, found[0].horizon)


def _add(last: _Link, records: Sequence[Any], *, at: datetime, horizon: int) -> None:
    number = last.number + 1
    digests = [(row.id, canonical.digest(document(row))) for row in records]
    sql.count(
        ADD,
        {
            "number": number,
            "at": at,
            "ids": sql.array(row.id for row in records),
            "digests": sql.array(digest for _id, digest in digests),
            "digest": canonical.chained(
                number=number, at=at, previous=last.digest, digests=digests
            ),
            "previous": last.digest,
            "horizon": horizon,
        },
    )


def document(row: Any) -> dict[str, Any]:
    """Return the members of a record as a hot statement brings it: its JSON is text there."""
    found = {name: getattr(row, name) for name in canonical.MEMBERS}
    return found | {
        "at": canonical.moment(found["at"]),
        "before": sql.parsed(found["before"]),
        "after": sql.parsed(found["after"]),
    }
