"""When a schedule fires: cron expressions on the wall clock of a zone, as moments in UTC. Pure.

`cronsim` reads the expression and walks over wall times (Debian's cron: lists, ranges, steps,
names, `L`, `#`; day and weekday by its rule). What a wall time means where clocks are put forward
or back is decided here:

- An expression that names its hours and minutes ("30 2 * * *") fires once a wall time: at its first
  occurrence when it comes twice, at the end of the gap when it does not come at all.
- An expression with a star in front of minutes or hours ("0 * * * *", "*/10 2 * * *") follows the
  clock as it runs: twice through an hour that comes twice, not at all in one that does not come.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

if TYPE_CHECKING:
    from collections.abc import Iterator

FIELDS = "minute hour day month weekday"
MINUTE = timedelta(minutes=1)
#: Clocks are put back by no more than this (zones of today: two hours).
LARGEST_REPEAT = timedelta(hours=3)
#: Any moment will do to read an expression.
_EPOCH = datetime(2000, 1, 1)  # noqa: DTZ001 - a wall time


class TimingInvalidError(ValueError):
    """Say what is wrong with a cron expression or the name of a zone."""


def zone(name: str) -> ZoneInfo:
    """Return a time zone by its IANA name, or raise TimingInvalidError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        # A folder of the database ("Europe") is an OSError, a path outside it a ValueError.
        raise TimingInvalidError(f"unknown time zone {name!r}, e.g. UTC or Europe/Berlin") from None


def check(cron: str) -> None:
    """Raise TimingInvalidError unless the expression is one that fires at some time."""
    if next(_walls(cron, _EPOCH), None) is None:
        raise TimingInvalidError("never fires")


def next_fire(*, cron: str, time_zone: str, after: datetime) -> datetime | None:
    """Return the first fire time later than `after` in UTC, or None when there is none.

    Raises TimingInvalidError.
    """
    where = zone(time_zone)
    local = after.astimezone(where)
    wall = local.replace(tzinfo=None)
    if not _follows_the_clock(cron):
        found = (_first_moment(time, where) for time in _walls(cron, wall))
        return next((moment for moment in found if moment > after), None)
    moments = (moment for time in _walls(cron, wall) for moment in _moments(time, where))
    ahead = next((moment for moment in moments if moment > after), None)
    later = (after + LARGEST_REPEAT).astimezone(where)
    if (later.utcoffset() or timedelta()) >= (local.utcoffset() or timedelta()):
        return ahead
    # Clocks are about to be put back: wall times that have been may come a second time.
    for time in _walls(cron, wall - LARGEST_REPEAT):
        if time > wall:
            break
        again = [moment for moment in _moments(time, where) if moment > after]
        if again:
            return again[0] if ahead is None else min(again[0], ahead)
    return ahead


def upcoming(*, cron: str, time_zone: str, after: datetime, number: int) -> list[datetime]:
    """Return the next fire times later than `after`, as the clocks of the zone show them."""
    where, found = zone(time_zone), after
    times: list[datetime] = []
    while len(times) < number:
        ahead = next_fire(cron=cron, time_zone=time_zone, after=found)
        if ahead is None:
            break
        times.append(ahead.astimezone(where))
        found = ahead
    return times


def latest_fires(
    *, cron: str, time_zone: str, since: datetime, until: datetime, limit: int
) -> list[datetime]:
    """Return the last `limit` fire times from `since` to `until`, both included, in order.

    Looks back from `until` in growing steps: a minute's schedule after a year of downtime costs
    what its last `limit` fires cost.
    """
    before = since - timedelta(microseconds=1)
    span = MINUTE
    while True:
        start = before if until - before <= span else until - span
        found = list(_fires(cron=cron, time_zone=time_zone, after=start, until=until))
        if len(found) >= limit or start == before:
            return found[max(0, len(found) - limit) :]
        span *= 2


def _fires(*, cron: str, time_zone: str, after: datetime, until: datetime) -> Iterator[datetime]:
    moment = next_fire(cron=cron, time_zone=time_zone, after=after)
    while moment is not None and moment <= until:
        yield moment
        moment = next_fire(cron=cron, time_zone=time_zone, after=moment)


def _walls(cron: str, after: datetime) -> Iterator[datetime]:
    """Yield the wall times of an expression after one; ends where 50 years have none."""
    if len(cron.split()) != len(FIELDS.split()):
        raise TimingInvalidError(f"must have five fields: {FIELDS}")
    try:
        yield from CronSim(cron, after)
    except CronSimError as exc:
        raise TimingInvalidError(f"{str(exc).lower()} (fields: {FIELDS})") from None
    except OverflowError:
        return  # the end of the calendar


def _follows_the_clock(cron: str) -> bool:
    return any(part.startswith("*") for part in cron.split()[:2])


def _moments(wall: datetime, where: ZoneInfo) -> list[datetime]:
    """Return when the clocks show this wall time, in order: never, once or twice."""
    told = [wall.replace(tzinfo=where, fold=fold) for fold in (0, 1)]
    moments = {moment.astimezone(UTC) for moment in told}
    return sorted(m for m in moments if m.astimezone(where).replace(tzinfo=None, fold=0) == wall)


def _first_moment(wall: datetime, where: ZoneInfo) -> datetime:
    """Return when the clocks first show this wall time, or the next one that they do show."""
    while not (found := _moments(wall, where)):
        wall += MINUTE
    return found[0]
