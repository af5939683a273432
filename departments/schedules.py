"""Schedules: what starts automations by itself. Each fire time makes one run, or none by policy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import django.db
import psycopg
import structlog
from django.db import IntegrityError, connection, transaction

from departments import fire_times, schedule_rules, selectors
from departments.models import Schedule
from engine import runs, sql
from engine.audit import trail
from engine.errors import EngineError, InputInvalidError
from engine.values import storable

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger(__name__)

#: Later than this a fire counts as missed (policy `skip`), in seconds: cron's own grain. A manager
#: that takes over from a dead one, or a restart of PostgreSQL, costs a few seconds and is no miss.
MISSED_SECONDS = 60.0
MAX_ERROR_CHARACTERS = 500
#: What an operator may set, and change later. The automation is fixed: the key that makes a fire
#: time's run the only one is unique per automation.
CHANGEABLE = ("input", "cron", "time_zone", "catch_up", "catch_up_limit")

# A subquery, so that the comparison can use the index: the clock's function alone is volatile.
DUE = """
SELECT id FROM departments_schedule
WHERE enabled AND next_fire_at <= (SELECT clock_timestamp())
ORDER BY next_fire_at LIMIT %s
"""


def create(*, name: str, automation: str, cron: str, actor: str, **values: Any) -> Schedule:
    """Add a schedule; its first fire time lies after now.

    values: input, time_zone, catch_up, catch_up_limit, enabled; absent ones have the model's
    defaults. Raises InputInvalidError that names each field at fault.
    """
    schedule = Schedule(name=name, automation_id=automation, cron=cron, **values)
    schedule_rules.check(schedule)
    _plan(schedule)
    with transaction.atomic():
        _save(schedule)
        _record("schedule.create", schedule.name, actor, before=None, after=_told(schedule))
    log.info("schedule_created", schedule=name, actor=actor)
    return schedule


def change(*, name: str, actor: str, rename: str | None = None, **values: Any) -> Schedule:
    """Change fields of a schedule (`CHANGEABLE`), and its name to `rename`.

    Another cron or zone counts from now: what the old one still owed is not made up for.
    Raises NotFoundError, or InputInvalidError that names each field at fault.
    """
    fixed = sorted(set(values) - set(CHANGEABLE))
    if fixed:
        problems = [{"field": field, "reason": "cannot be changed"} for field in fixed]
        raise InputInvalidError(f"{', '.join(fixed)}: cannot be changed", problems=problems)

    def act(schedule: Schedule) -> None:
        before = (schedule.cron, schedule.time_zone)
        schedule.name = rename or name
        for field, value in values.items():
            setattr(schedule, field, value)
        schedule_rules.check(schedule)
        schedule.error = ""
        if before != (schedule.cron, schedule.time_zone) or schedule.next_fire_at is None:
            _plan(schedule)

    return _locked(name, act, verb="change", event="schedule_changed", actor=actor)


def enable(*, name: str, actor: str) -> Schedule:
    """Let a schedule fire again, from now on. Enabling an enabled one changes nothing.

    Raises NotFoundError, or InputInvalidError when it is not valid any more.
    """

    def act(schedule: Schedule) -> None:
        if schedule.enabled and schedule.next_fire_at is not None:
            return
        schedule_rules.check(schedule)
        schedule.enabled = True
        schedule.error = ""
        _plan(schedule)

    return _locked(name, act, verb="enable", event="schedule_enabled", actor=actor)


def disable(*, name: str, actor: str) -> Schedule:
    """Let a schedule not fire until it is enabled. Raises NotFoundError."""

    def act(schedule: Schedule) -> None:
        schedule.enabled = False
        _plan(schedule)

    return _locked(name, act, verb="disable", event="schedule_disabled", actor=actor)


def remove(*, name: str, actor: str) -> None:
    """Delete a schedule; the runs it started stay. Raises NotFoundError."""
    with transaction.atomic():
        schedule = selectors.schedule(name=name, lock=True)
        before = _told(schedule)
        schedule.delete()
        _record("schedule.remove", name, actor, before=before, after=None)
    log.info("schedule_removed", schedule=name, actor=actor)


def fire_due(*, limit: int) -> int:
    """Start the runs of schedules that are due, each in a transaction; return how many were due.

    A schedule that cannot start its run notes why and moves on to its next fire time. One that
    fails in another way stays due and does not hold up the others; its error is raised at the end.
    """
    with connection.cursor() as cursor:
        cursor.execute(DUE, [limit])
        due = [found for (found,) in cursor.fetchall()]
    failed: Exception | None = None
    for schedule_id in due:
        try:
            fire(schedule_id=schedule_id)
        except Exception as exc:
            if sql.is_connection_lost():
                raise
            failed = exc  # one row must not stop the others
    if failed is not None:
        raise failed
    return len(due)


@transaction.atomic
def fire(*, schedule_id: int) -> bool:
    """Start what one schedule owes and move it on, in one transaction; False when it is not due.

    Each fire time's run has the business key `schedule:<id>:<fire time>`: however often a fire
    time comes up again, after a crash or set back by hand, there is one run of it.
    """
    # Of two managers one gets the row; the other skips it, and later finds it moved on.
    schedule = (
        Schedule.objects.select_for_update(skip_locked=True, no_key=True)
        .filter(pk=schedule_id, enabled=True)
        .first()
    )
    now = _now()
    if schedule is None or schedule.next_fire_at is None or schedule.next_fire_at > now:
        return False
    error = ""
    started: list[datetime] = []
    try:
        with transaction.atomic():  # what a refused submission leaves open is undone, no more
            started = _start(schedule, since=schedule.next_fire_at, now=now)
    except (psycopg.Error, django.db.Error):
        raise  # the database's trouble, not the schedule's: it stays due
    except Exception as exc:  # noqa: BLE001 - code of an automation's author may run in here
        error = _refusal(schedule, exc)
    if started:
        schedule.last_fire_at = started[-1]
    schedule.error = error
    schedule.next_fire_at = _next_or_none(schedule, after=now)
    schedule.save(update_fields=["last_fire_at", "next_fire_at", "error"])
    return True


def _start(schedule: Schedule, *, since: datetime, now: datetime) -> list[datetime]:
    """Submit a run for each fire time that is owed by the policy; return those fire times."""
    owed = fire_times.latest_fires(
        cron=schedule.cron,
        time_zone=schedule.time_zone,
        since=since,
        until=now,
        limit=schedule.catch_up_limit if schedule.catch_up == "all" else 1,
    )
    if schedule.catch_up == "skip":
        owed = [at for at in owed if now - at <= timedelta(seconds=MISSED_SECONDS)]
    if now - since > timedelta(seconds=MISSED_SECONDS):
        log.warning(
            "schedule_late",
            schedule=schedule.name,
            since=since.isoformat(),
            catch_up=schedule.catch_up,
            starting=len(owed),
        )
    for at in owed:
        key = fire_key(schedule_id=schedule.pk, at=at)
        runs.submit(
            automation=schedule.automation_id,
            input=schedule.input,
            trigger="schedule",
            created_by=f"schedule:{schedule.name}",
            dedupe_key=key,
            correlation_id=key,
        )
    return owed


def fire_key(*, schedule_id: int, at: datetime) -> str:
    """Return the business key of a fire time's run, the same however the moment is written."""
    return f"schedule:{schedule_id}:{at.astimezone(UTC).isoformat()}"


def _refusal(schedule: Schedule, error: Exception) -> str:
    """Return what is stored of an error, logged when it is not the one that is stored already."""
    known = isinstance(error, (EngineError, fire_times.TimingInvalidError))
    text = str(error) if known else f"unexpected error: {type(error).__name__}"
    text = storable(text)[:MAX_ERROR_CHARACTERS]
    if text != schedule.error:
        log.error(
            "schedule_refused",
            schedule=schedule.name,
            automation=schedule.automation_id,
            reason=text,
            exc_info=None if known else error,
        )
    return text


def _plan(schedule: Schedule) -> None:
    """Let a schedule count from now; a disabled one has no next fire time."""
    schedule.next_fire_at = _next(schedule, after=_now()) if schedule.enabled else None


def _next(schedule: Schedule, *, after: datetime) -> datetime | None:
    return fire_times.next_fire(cron=schedule.cron, time_zone=schedule.time_zone, after=after)


def _next_or_none(schedule: Schedule, *, after: datetime) -> datetime | None:
    """Return the next fire time; None for an expression or zone that is not valid any more."""
    try:
        return _next(schedule, after=after)
    except fire_times.TimingInvalidError:
        return None


def _now() -> datetime:
    """Return the database's time: the only clock schedules go by."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        now: datetime = cursor.fetchone()[0]
    return now.astimezone(UTC)


def _locked(
    name: str, act: Callable[[Schedule], None], *, verb: str, event: str, actor: str
) -> Schedule:
    with transaction.atomic():
        schedule = selectors.schedule(name=name, lock=True)
        before = _told(schedule)
        act(schedule)
        _save(schedule)
        was, now = trail.changed(before, _told(schedule))
        _record(f"schedule.{verb}", name, actor, before=was, after=now)
    log.info(event, schedule=schedule.name, actor=actor)
    return schedule


def _told(schedule: Schedule) -> dict[str, Any]:
    """Return what the audit trail is told of a schedule: of its input that it is another one."""
    return {
        "name": schedule.name,
        "automation": schedule.automation_id,
        "cron": schedule.cron,
        "time_zone": schedule.time_zone,
        "catch_up": schedule.catch_up,
        "catch_up_limit": schedule.catch_up_limit,
        "enabled": schedule.enabled,
        "input_sha256": trail.digest(schedule.input),
    }


def _record(
    action: str,
    name: str,
    actor: str,
    *,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
) -> None:
    trail.record(action, kind="schedule", id=name, actor=actor, before=before, after=after)


def _save(schedule: Schedule) -> None:
    try:
        with transaction.atomic():
            schedule.save()
    except IntegrityError as exc:
        problems = [{"field": "name", "reason": "taken by another schedule"}]
        raise InputInvalidError("name: taken by another schedule", problems=problems) from exc
