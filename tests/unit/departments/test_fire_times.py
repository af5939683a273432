"""Fire times against a clock that is read minute by minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from departments import fire_times
from departments.fire_times import TimingInvalidError

MINUTE = timedelta(minutes=1)
#: An hour forward and back, half an hour, two hours, at midnight, never, and an odd offset.
ZONES = [
    "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Antarctica/Troll", "Africa/Cairo",
    "America/Havana", "America/St_Johns", "Asia/Kolkata", "UTC",
]  # fmt: skip
HORIZON = 3 * 24 * 60


@lru_cache
def changes(zone: str) -> list[datetime]:
    """The hours of 2026 in which the clocks of a zone are changed, or any hour."""
    where = ZoneInfo(zone)
    hours = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=n) for n in range(8760)]
    offsets = [hour.astimezone(where).utcoffset() for hour in hours]
    return [
        hour for hour, a, b in zip(hours, offsets, offsets[1:], strict=False) if a != b
    ] or hours[:1]


@lru_cache(maxsize=64)
def clock(zone: str, start: datetime) -> list[tuple[datetime, datetime]]:
    """What the clocks of a zone show, minute by minute: (moment, wall time)."""
    where = ZoneInfo(zone)
    moments = [start + n * MINUTE for n in range(HORIZON)]
    return [(m, m.astimezone(where).replace(tzinfo=None, fold=0)) for m in moments]


class Cron:
    """An expression made of sets, so that what it matches needs no parser."""

    def __init__(self, minutes, hours, days, weekdays):
        self.parts = (minutes, hours, days, weekdays)
        words = ["*" if part is None else ",".join(map(str, sorted(part))) for part in self.parts]
        minute, hour, day, weekday = words
        self.text = f"{minute} {hour} {day} * {weekday}"

    def matches(self, wall: datetime) -> bool:
        minutes, hours, days, weekdays = self.parts
        on_day = days is None or wall.day in days
        on_weekday = weekdays is None or wall.isoweekday() % 7 in weekdays
        # Both given: either will do, as in cron.
        either = days is not None and weekdays is not None
        fits = (on_day or on_weekday) if either else (on_day and on_weekday)
        return (
            fits
            and (minutes is None or wall.minute in minutes)
            and (hours is None or wall.hour in hours)
        )

    def fires(self, zone: str, start: datetime) -> list[datetime]:
        """Every fire time in the three days after `start`, by looking at the clock."""
        shown = clock(zone, start)
        if self.parts[0] is None or self.parts[1] is None:
            return [moment for moment, wall in shown if self.matches(wall)]
        found, seen = [], set()
        for (_, before), (moment, wall) in pairwise(shown):
            skipped = range(1, max(1, (wall - before) // MINUTE))
            due = any(self.matches(before + n * MINUTE) for n in skipped)
            if due or (self.matches(wall) and wall not in seen):
                found.append(moment)
            seen |= {before, wall}
        return found


def some(values, *, most=4):
    return st.none() | st.sets(st.sampled_from(list(values)), min_size=1, max_size=most)


crons = st.builds(
    Cron, some(range(60)), some(range(24), most=6), some(range(1, 29)), some(range(7))
)


@settings(deadline=None)
@given(cron=crons, zone=st.sampled_from(ZONES), data=st.data(), back=st.integers(0, 50 * 60))
def test_next_fire__is_the_first_that_a_look_at_the_clock_finds(cron, zone, data, back):
    change = data.draw(st.sampled_from(changes(zone)))
    start = change - timedelta(days=2, hours=6)
    after = change + timedelta(hours=4) - back * MINUTE
    ahead = [moment for moment in cron.fires(zone, start) if moment > after]
    found = fire_times.next_fire(cron=cron.text, time_zone=zone, after=after)
    if ahead:
        assert found == ahead[0], (cron.text, zone, after)
    else:
        assert found is None or found >= start + HORIZON * MINUTE
    assert found is None or found.tzinfo is UTC


@settings(deadline=None)
@given(
    cron=crons, zone=st.sampled_from(ZONES), minutes=st.integers(0, 2000), limit=st.integers(1, 9)
)
def test_latest_fires__are_the_last_of_those_that_were_owed(cron, zone, minutes, limit):
    start = changes(zone)[0] - timedelta(days=1)
    since, until = start + timedelta(hours=10), start + timedelta(hours=10) + minutes * MINUTE
    owed = [moment for moment in cron.fires(zone, start) if since <= moment <= until]
    found = fire_times.latest_fires(
        cron=cron.text, time_zone=zone, since=since, until=until, limit=limit
    )
    assert found == owed[-limit:]


def fires(cron: str, zone: str, after: str, number: int) -> list[str]:
    moment, found = datetime.fromisoformat(after), []
    for _ in range(number):
        moment = fire_times.next_fire(cron=cron, time_zone=zone, after=moment)
        found.append(f"{moment:%d %H:%M}")
    return found


def test_clocks_forward__a_named_time_that_is_missing_fires_at_the_end_of_the_gap():
    after = "2026-03-28T12:00+01:00"
    assert fires("30 2 * * *", "Europe/Berlin", after, 2) == ["29 01:00", "30 00:30"]
    # Several of the gap, and the one at its end, are one moment: it fires once.
    assert fires("0,30 2,3 * * *", "Europe/Berlin", after, 3) == [
        "29 01:00",
        "29 01:30",
        "30 00:00",
    ]


def test_clocks_forward__an_hourly_schedule_goes_on_hour_by_hour():
    after = "2026-03-29T01:30+01:00"
    assert fires("0 * * * *", "Europe/Berlin", after, 3) == ["29 01:00", "29 02:00", "29 03:00"]


def test_clocks_back__a_named_time_that_comes_twice_fires_once():
    after = "2026-10-24T12:00+02:00"
    assert fires("30 2 * * *", "Europe/Berlin", after, 2) == ["25 00:30", "26 01:30"]
    # Between its two occurrences, and in the second hour: not again.
    assert fires("30 2 * * *", "Europe/Berlin", "2026-10-25T02:45+02:00", 1) == ["26 01:30"]
    assert fires("30 2 * * *", "Europe/Berlin", "2026-10-25T02:15+01:00", 1) == ["26 01:30"]


def test_clocks_back__an_hourly_schedule_goes_on_hour_by_hour():
    after = "2026-10-25T01:30+02:00"
    expected = ["25 00:00", "25 01:00", "25 02:00", "25 03:00"]
    assert fires("0 * * * *", "Europe/Berlin", after, 4) == expected


def test_a_minutes_schedule_after_a_year_of_downtime__costs_what_it_makes_up_for(monkeypatch):
    calls = []
    real = fire_times.next_fire
    monkeypatch.setattr(fire_times, "next_fire", lambda **k: calls.append(1) or real(**k))
    until = datetime(2026, 6, 1, tzinfo=UTC)
    found = fire_times.latest_fires(
        cron="* * * * *", time_zone="UTC", since=until - timedelta(days=365), until=until, limit=100
    )
    assert (len(found), found[-1]) == (100, until)
    assert len(calls) < 500


@pytest.mark.parametrize(
    ("cron", "word"),
    [
        ("", "five fields"),
        ("* * * *", "five fields"),
        ("* * * * * *", "five fields"),
        ("@daily", "five fields"),
        ("60 * * * *", "minute"),
        ("0 24 * * *", "hour"),
        ("0 0 30 2 *", "day-of-month"),
        ("0 0 * * MOO", "day-of-week"),
        ("* * */20 * 1L", "never"),
    ],
)
def test_check__says_what_is_wrong_with_an_expression(cron, word):
    with pytest.raises(TimingInvalidError, match=word):
        fire_times.check(cron)


@settings(deadline=None)
@given(st.text(alphabet="0123456789*/-,#LW MONJAN\x00٣", max_size=30))
@example("0 0 1#2/3 * *")
def test_check__takes_or_refuses_any_text_and_never_fails_otherwise(text):
    try:
        fire_times.check(text)
    except TimingInvalidError:
        return
    assert fire_times.next_fire(cron=text, time_zone="UTC", after=datetime.now(UTC))


@pytest.mark.parametrize("name", ["", "Europe", "../etc/passwd", "Mars/Olympus", "a\x00"])
def test_zone__that_does_not_exist_is_refused(name):
    with pytest.raises(TimingInvalidError, match="time zone"):
        fire_times.zone(name)
