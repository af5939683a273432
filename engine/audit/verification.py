"""Compute the whole chain again and name what does not fit: record, seal, and how.

In one snapshot, seal by seal: any number of records, always the memory of one seal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db import connection, transaction

from engine.audit import canonical, sealing
from engine.models import AuditRecord, AuditSeal

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Findings that are named; beyond it they are counted.
NAMED = 100
#: No transaction of ours is open for longer: a record that is dated further before the seal ahead
#: of its own was not written then. Idle ones are ended after 30 s.
LONGEST_TRANSACTION = timedelta(hours=1)
#: A record that is unsealed for longer than this waits for a manager.
PATIENCE = timedelta(minutes=1)
#: Seals that are read at a time.
CHUNK = 50

UNSEALED = """
SELECT r.id FROM engine_auditrecord r
WHERE NOT EXISTS (SELECT 1 FROM engine_auditseal s WHERE s.record_ids @> ARRAY[r.id])
ORDER BY r.id
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not fit."""

    what: str
    record: int | None = None
    seal: int | None = None


@dataclass(slots=True)
class Verdict:
    """What was found, and the end of the chain: kept elsewhere it proves what came before it."""

    records: int = 0
    seals: int = 0
    unsealed: int = 0
    waiting: int = 0
    head: str = ""
    count: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Tell whether everything fits."""
        return not self.count

    def find(self, what: str, *, record: int | None = None, seal: int | None = None) -> None:
        """Note a finding."""
        self.count += 1
        if len(self.findings) < NAMED:
            self.findings.append(Finding(what, record=record, seal=seal))


def head() -> str:
    """Return `number:digest` of the last seal, empty without one: what to keep elsewhere."""
    last = AuditSeal.objects.order_by("-number").first()
    return f"{last.number}:{last.digest}" if last else ""


def verify(*, anchor: str = "") -> Verdict:
    """Verify every record and seal.

    anchor: a head that was kept elsewhere; the chain must still hold that seal.
    """
    verdict = Verdict()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        sealing.plan_look_ups()
        cursor.execute("SELECT clock_timestamp()")
        (now,) = cursor.fetchone()
        last = _verify_seals(verdict)
        cursor.execute(UNSEALED)
        _verify_unsealed(verdict, [found for (found,) in cursor.fetchall()], last=last, now=now)
        if anchor:
            _verify_anchor(verdict, anchor)
    return verdict


def _verify_seals(verdict: Verdict) -> AuditSeal | None:
    """Follow the chain from its beginning; return its last link."""
    last: AuditSeal | None = None
    seen: set[int] = set()
    for seal in _seals():
        number = last.number if last else 0
        for missing in range(number + 1, min(seal.number, number + NAMED)):
            verdict.find("is missing", seal=missing)
        if seal.previous != (last.digest if last else canonical.GENESIS):
            verdict.find("does not follow the seal before it", seal=seal.number)
        _verify_seal(verdict, seal, last=last)
        twice = seen.intersection(seal.record_ids)
        for record in twice:
            verdict.find("is sealed twice", record=record, seal=seal.number)
        # Ids grow: only those of the latest seals can come again by mistake of a sealer.
        seen = set(seal.record_ids)
        last = seal
    if last is not None:
        verdict.head = f"{last.number}:{last.digest}"
    return last


def _verify_seal(verdict: Verdict, seal: AuditSeal, *, last: AuditSeal | None) -> None:
    verdict.seals += 1
    rows = AuditRecord.objects.in_bulk(seal.record_ids)
    sealed = dict(zip(seal.record_ids, seal.record_digests, strict=False))
    for identity in seal.record_ids:
        row = rows.get(identity)
        if row is None:
            verdict.find("was deleted", record=identity, seal=seal.number)
            continue
        verdict.records += 1
        if canonical.digest(canonical.record(row)) != sealed.get(identity):
            verdict.find("was changed", record=identity, seal=seal.number)
        elif last is not None and _is_dated_back(row, last):
            verdict.find(
                "was put in later than it says: it is dated before what was sealed before it",
                record=identity,
                seal=seal.number,
            )
    expected = canonical.chained(
        number=seal.number,
        at=seal.at,
        previous=seal.previous,
        digests=list(zip(seal.record_ids, seal.record_digests, strict=False)),
    )
    if expected != seal.digest or len(seal.record_ids) != len(seal.record_digests):
        verdict.find("was changed", seal=seal.number)


def _verify_unsealed(
    verdict: Verdict, identities: list[int], *, last: AuditSeal | None, now: datetime
) -> None:
    for row in AuditRecord.objects.filter(pk__in=identities).iterator():
        verdict.unsealed += 1
        if last is not None and _is_dated_back(row, last):
            verdict.find(
                "was put in later than it says: it is in no seal and dated before the last one",
                record=row.pk,
            )
        elif now - row.at > PATIENCE:
            verdict.waiting += 1


def _is_dated_back(row: AuditRecord, last: AuditSeal) -> bool:
    """Tell whether a record cannot have been there, nor under way, when a seal before it was made.

    Below its horizon every transaction was over; above it one was open, and not for hours. A
    restored database counts transactions anew: there the date alone tells.
    """
    if row.at >= last.at:
        return False
    return row.transaction_id < last.horizon or last.at - row.at > LONGEST_TRANSACTION


def _verify_anchor(verdict: Verdict, anchor: str) -> None:
    number, _, digest = anchor.partition(":")
    found = AuditSeal.objects.filter(number=int(number)).first() if number.isdigit() else None
    if found is None:
        verdict.find(f"of the anchor {anchor} is missing", seal=int(number) if number else None)
    elif found.digest != digest:
        verdict.find(
            "is another one than the anchor's: the chain was written anew", seal=int(number)
        )


def _seals() -> Iterator[AuditSeal]:
    after = 0
    while found := list(AuditSeal.objects.filter(number__gt=after).order_by("number")[:CHUNK]):
        yield from found
        after = found[-1].number


def exported(*, since: datetime | None, until: datetime | None) -> Iterator[dict[str, Any]]:
    """Yield the trail as JSON objects: each seal's records, the seal; what is unsealed; the head.

    since, until: which seals, by the moment they were made, always whole: so that somebody else can
    compute them again. Unsealed records only without `until`.
    """
    yield {"audit": {"version": 1, "canonical_form": "RFC 8785", "digest": "SHA-256"}}
    for seal in _seals():
        if (since and seal.at < since) or (until and seal.at > until):
            continue
        rows = AuditRecord.objects.in_bulk(seal.record_ids)
        for identity in seal.record_ids:
            if identity in rows:
                yield {"record": canonical.record(rows[identity])}
        yield {"seal": canonical.seal(seal)}
    if until is None:
        with transaction.atomic(), connection.cursor() as cursor:
            sealing.plan_look_ups()
            cursor.execute(UNSEALED)
            identities = [found for (found,) in cursor.fetchall()]
        for row in AuditRecord.objects.filter(pk__in=identities).order_by("pk").iterator():
            yield {"unsealed": canonical.record(row)}
    yield {"head": head()}
