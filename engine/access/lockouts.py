"""Slow the guessing of passwords down: failed sign-ins lock, each further one for twice as long.

A try is counted before its password is looked at, and given back when it was right: of a hundred
tries at once no more are looked at than of a hundred in a row. What is counted, and against whom,
does not depend on whether the account exists.
"""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models import Q
from django.utils.crypto import salted_hmac

from engine import sql
from engine.access import addresses
from engine.audit import trail
from engine.errors import EngineError
from engine.models import Lockout

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from django.db.models import QuerySet

Kind = Literal["account", "address", "pair"]

#: For how long an account counts as known at an address it has signed in from.
KNOWN_SECONDS = 30 * 86_400
#: Rows nothing depends on that go with each try: more than come.
SWEPT = 10


@dataclass(frozen=True, slots=True)
class Rule:
    """`free` failures; that one and each further one locks, for twice as long as the one before."""

    free: int
    first_seconds: int
    longest_seconds: int
    #: After so long without a failure the next one counts as the first, in seconds.
    forgotten_seconds: int


_GUESSED = Rule(free=5, first_seconds=15, longest_seconds=900, forgotten_seconds=86_400)
RULES: dict[Kind, Rule] = {
    "account": _GUESSED,
    "pair": _GUESSED,
    # Many people may share one; a short limit, because it also meets those who guess nothing.
    "address": Rule(free=20, first_seconds=15, longest_seconds=300, forgotten_seconds=3600),
}

_FAILURES = """
CASE WHEN l.last_failed_at > clock_timestamp() - %(forgotten)s * interval '1 second'
     THEN l.failures + 1 ELSE 1 END
"""
# No row comes back while it is locked. The clock is read once the row is ours.
COUNT = sql.compact(f"""
INSERT INTO engine_lockout AS l
    (kind, key, account, address, failures, last_failed_at, kept_until)
VALUES (%(kind)s, %(key)s, %(account)s, %(address)s, 1, clock_timestamp(),
    clock_timestamp() + (%(forgotten)s + %(longest)s) * interval '1 second')
ON CONFLICT (key) DO UPDATE SET
    account = excluded.account,
    failures = {_FAILURES},
    last_failed_at = clock_timestamp(),
    locked_until = CASE WHEN {_FAILURES} >= %(free)s THEN clock_timestamp() + interval '1 second'
        * least(%(longest)s, %(first)s * power(2, least({_FAILURES} - %(free)s, 20))) END,
    kept_until = greatest(l.kept_until, excluded.kept_until)
WHERE l.locked_until IS NULL OR l.locked_until <= clock_timestamp()
RETURNING locked_until
""")  # noqa: S608 - a constant of this module
WAIT = """
SELECT max(extract(epoch FROM locked_until - clock_timestamp())) AS seconds
FROM engine_lockout WHERE key = ANY(%(keys)s)
"""
KNOWN = """
SELECT 1 FROM engine_lockout WHERE key = %(key)s
  AND succeeded_at > clock_timestamp() - %(known)s * interval '1 second'
"""
# The lock this try has set goes with it, one that another try has set stays.
GIVE_BACK = """
UPDATE engine_lockout SET failures = greatest(failures - 1, 0),
    locked_until = CASE WHEN locked_until = %(mine)s THEN NULL ELSE locked_until END
WHERE key = %(key)s
"""
REMEMBER = """
INSERT INTO engine_lockout (kind, key, account, address, failures, succeeded_at, kept_until)
VALUES ('pair', %(key)s, %(account)s, %(address)s, 0, clock_timestamp(),
    clock_timestamp() + %(known)s * interval '1 second')
ON CONFLICT (key) DO UPDATE SET account = excluded.account, failures = 0, locked_until = NULL,
    succeeded_at = excluded.succeeded_at, kept_until = excluded.kept_until
"""
FORGET = "DELETE FROM engine_lockout WHERE key = %(key)s"
SWEEP = """
DELETE FROM engine_lockout WHERE id IN (
    SELECT id FROM engine_lockout WHERE kept_until < clock_timestamp()
    ORDER BY kept_until LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
"""


class LockedOutError(EngineError):
    """Refuse a try without looking at it; the same words whether there is such an account."""

    code = "sign_in_locked"

    def __init__(self, wait: int) -> None:
        super().__init__(f"Too many failed sign-ins. Try again in {wait} seconds.")
        #: Whole seconds, never too few.
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Try:
    """A try that was counted as a failure and may still turn out right."""

    name: str
    #: The name if there is such an account, else empty.
    account: str
    address: str
    #: What was counted: key → the lock that this try has set, if any.
    counted: dict[str, datetime | None] = field(default_factory=dict)


def begin(*, name: str, address: str | None) -> Try:
    """Count a try; raises LockedOutError, having counted nothing, while a lock holds.

    Where the account has signed in from before, only what failed for it there counts: nobody can
    lock it out there from elsewhere, nor all the others of its address.
    """
    name = unicodedata.normalize("NFKC", name)
    place = addresses.holder(address)
    known = get_user_model().objects.filter(username=name).values_list("username", flat=True)
    found = Try(name=name, account=known.first() or "", address=place)
    pair = _key("pair", name, place)
    kinds: dict[str, Kind] = {_key("account", name): "account"}
    if place:
        kinds[_key("address", place)] = "address"
        if sql.rows(KNOWN, {"key": pair, "known": KNOWN_SECONDS}):
            kinds = {pair: "pair"}
    try:
        with transaction.atomic():
            # Always in the same order: two tries never wait for each other crosswise.
            for key, kind in sorted(kinds.items()):
                found.counted[key] = _count(key, kind, found)
    except _LockedError:
        (row,) = sql.rows(WAIT, {"keys": list(kinds)})
        raise LockedOutError(max(1, math.ceil(row.seconds or 0))) from None
    sql.count(SWEEP, {"limit": SWEPT})
    return found


def succeed(tried: Try) -> None:
    """Give a try back that was right; from now on the account is known at its address."""
    account, pair = _key("account", tried.name), _key("pair", tried.name, tried.address)
    with transaction.atomic():
        for key, mine in sorted(tried.counted.items()):
            if key == account:
                sql.count(FORGET, {"key": key})
            elif key != pair:
                sql.count(GIVE_BACK, {"key": key, "mine": mine})
        if tried.address:
            what = {"account": tried.account, "address": tried.address, "known": KNOWN_SECONDS}
            sql.count(REMEMBER, {"key": pair, **what})


def failing() -> QuerySet[Lockout]:
    """Return what failed and is not forgotten, the latest first."""
    return Lockout.objects.filter(failures__gt=0).order_by("-last_failed_at")


def clear(
    *, ids: Iterable[int] = (), account: str = "", address: str = "", everything: bool = False
) -> int:
    """Forget failures: those of the rows, of an account, from an address; return how many rows.

    That an account is known at an address stays.
    """
    wanted = Q(pk__in=list(ids))
    if account:
        wanted |= Q(account=account)
    if address:
        wanted |= Q(address=addresses.holder(address) or address)
    rows = failing() if everything else failing().filter(wanted)
    with transaction.atomic():
        about = [str(row) for row in rows[: trail.MAX_ITEMS]]
        cleared = rows.update(failures=0, locked_until=None)
        after = {"cleared": cleared, "entries": about}
        trail.record("lockout.clear", kind="lockout", id=account or address or "", after=after)
    return cleared


class _LockedError(Exception):
    """Undo what was counted."""


def _count(key: str, kind: Kind, tried: Try) -> datetime | None:
    rule = RULES[kind]
    rows = sql.rows(
        COUNT,
        {
            "kind": kind,
            "key": key,
            "account": "" if kind == "address" else tried.account,
            "address": "" if kind == "account" else tried.address,
            "free": rule.free,
            "first": rule.first_seconds,
            "longest": rule.longest_seconds,
            "forgotten": rule.forgotten_seconds,
        },
    )
    if not rows:
        raise _LockedError
    locked_until: datetime | None = rows[0].locked_until
    return locked_until


def _key(*parts: str) -> str:
    text = "\x00".join(parts)
    return salted_hmac("engine.access.lockouts", text, algorithm="sha256").hexdigest()
