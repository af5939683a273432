"""Schedules on real PostgreSQL: each fire time once, whatever races, dies or is set by hand."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from django.db import connection, connections, transaction

from departments import schedules, selectors
from departments.models import Automation, Schedule
from engine import registry, runs
from engine.errors import InputInvalidError, NotFoundError
from engine.models import Run

MINUTE = timedelta(minutes=1)
HOURLY = "0 * * * *"


def make(name="nightly", **values):
    return schedules.create(
        **{
            "name": name,
            "automation": "lab.squares",
            "cron": "* * * * *",
            "input": {"count": 2},
            "actor": "ann",
        }
        | values
    )


def whole_minutes_ago(minutes: int) -> datetime:
    return datetime.now(UTC).replace(second=0, microsecond=0) - minutes * MINUTE


def overdue(schedule, since: datetime) -> Schedule:
    """Let a schedule have been due since then."""
    Schedule.objects.filter(pk=schedule.pk).update(next_fire_at=since)
    schedule.refresh_from_db()
    return schedule


def due(name="nightly", *, minutes=0, **values) -> Schedule:
    """A daily schedule whose time was these minutes ago: it has no other fire time for a day."""
    at = whole_minutes_ago(minutes)
    return overdue(make(name, cron=f"{at.minute} {at.hour} * * *", **values), at)


def keys() -> list[str]:
    return list(Run.objects.order_by("id").values_list("dedupe_key", flat=True))


def fire_times_of(schedule) -> list[datetime]:
    prefix = f"schedule:{schedule.pk}:"
    return [datetime.fromisoformat(key.removeprefix(prefix)) for key in keys()]


# --- firing ------------------------------------------------------------------------------


def test_fire__starts_the_run_and_moves_on(line):
    schedule = due()
    due_at = schedule.next_fire_at
    assert schedules.fire_due(limit=10) == 1
    run = Run.objects.get()
    assert run.dedupe_key == run.correlation_id == f"schedule:{schedule.pk}:{due_at.isoformat()}"
    assert (run.trigger, run.created_by) == ("schedule", "schedule:nightly")
    assert run.input == {"count": 2, "seconds": 0.0}
    schedule.refresh_from_db()
    assert schedule.last_fire_at == due_at
    assert schedule.next_fire_at == due_at + timedelta(days=1)
    assert schedules.fire_due(limit=10) == 0
    line.deliver()
    run.refresh_from_db()
    assert run.state == "succeeded"


def test_fire__is_not_done_before_its_time(line):
    schedule = make()
    assert schedule.next_fire_at > datetime.now(UTC)
    assert schedules.fire_due(limit=10) == 0
    assert not Run.objects.exists()


def test_fire__by_two_managers_at_once_starts_one_run(line):
    for number in range(8):
        due(f"s{number}")
    together = threading.Barrier(4)

    def manager(_number):
        together.wait()
        try:
            return schedules.fire_due(limit=100)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(manager, range(4)))
    assert len(keys()) == len(set(keys())) == 8


def test_fire__a_row_that_another_manager_holds_is_skipped(line):
    schedule = due()
    with transaction.atomic():
        Schedule.objects.select_for_update().get(pk=schedule.pk)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(elsewhere, schedule.pk).result(timeout=5) is False
    assert schedules.fire(schedule_id=schedule.pk) is True


def elsewhere(pk):
    try:
        return schedules.fire(schedule_id=pk)
    finally:
        connections.close_all()


def test_death_between_submit_and_commit__leaves_exactly_one_run_in_the_end(line, monkeypatch):
    schedule = due()
    real, submitted = runs.submit, []

    def submit_and_die(**values):
        submitted.append(real(**values))
        with connection.cursor() as cursor:  # what the server sees of a killed manager
            cursor.execute("SELECT pg_backend_pid()")
            (pid,) = cursor.fetchone()
        with psycopg.connect(**dsn(), autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s)", [pid])
        return submitted[0]

    monkeypatch.setattr(runs, "submit", submit_and_die)
    with pytest.raises(Exception, match=r"connection|terminat"):
        schedules.fire_due(limit=10)
    connection.close()
    assert submitted[0].created
    assert line.messages == [], "told to workers before the commit"
    assert not Run.objects.exists()
    monkeypatch.undo()
    assert schedules.fire_due(limit=10) == 1
    assert fire_times_of(schedule) == [schedule.next_fire_at]
    line.deliver()
    assert Run.objects.get().state == "succeeded"


def dsn() -> dict[str, str]:
    found = connection.settings_dict
    values = {"dbname": found["NAME"], "user": found["USER"], "host": found["HOST"]}
    return values | {"password": found["PASSWORD"], "port": found["PORT"]}


def test_fire_time__set_back_by_hand_starts_nothing_twice(line):
    schedule = overdue(make(catch_up="all"), whole_minutes_ago(5))
    schedules.fire_due(limit=10)
    before = keys()
    assert len(before) in {6, 7}
    # By half a minute too: a fire time is what the cron says, not what stands in the column.
    for back in (
        whole_minutes_ago(3),
        whole_minutes_ago(4) - timedelta(seconds=30, microseconds=7),
    ):
        overdue(schedule, back)
        assert schedules.fire_due(limit=10) == 1
    assert keys()[: len(before)] == before
    assert len(keys()) == len(set(keys())) <= len(before) + 1


# --- after downtime ----------------------------------------------------------------------


def owed_hours(number: int) -> list[datetime]:
    """The last hours, ended more than a minute ago unless it has just struck."""
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    return [hour - timedelta(hours=n) for n in reversed(range(number))]


@pytest.fixture
def hour_long_past(monkeypatch):
    """Whatever the clock says now, the last full hour counts as missed."""
    monkeypatch.setattr(schedules, "MISSED_SECONDS", 0.0)


@pytest.mark.parametrize(
    ("catch_up", "limit", "made_up"),
    [("skip", 100, 0), ("latest", 100, 1), ("all", 100, 5), ("all", 3, 3)],
)
def test_downtime__is_made_up_for_by_the_policy(line, hour_long_past, catch_up, limit, made_up):
    hours = owed_hours(5)
    schedule = make(cron=HOURLY, catch_up=catch_up, catch_up_limit=limit)
    overdue(schedule, hours[0])
    assert schedules.fire_due(limit=10) == 1
    assert fire_times_of(schedule) == hours[5 - made_up :]
    schedule.refresh_from_db()
    assert schedule.next_fire_at == hours[-1] + timedelta(hours=1)
    assert schedule.last_fire_at == (hours[-1] if made_up else None)


def test_skip__a_takeover_within_the_minute_is_no_miss(line):
    schedule = due(catch_up="skip")
    schedules.fire_due(limit=10)
    assert len(fire_times_of(schedule)) == 1


# --- on and off --------------------------------------------------------------------------


def test_disabled__does_not_fire_and_owes_nothing_when_enabled_again(line):
    schedule = overdue(make(catch_up="all"), whole_minutes_ago(3))
    assert schedules.disable(name="nightly", actor="ann").next_fire_at is None
    Schedule.objects.update(next_fire_at=whole_minutes_ago(3))
    assert schedules.fire_due(limit=10) == 0
    assert schedules.fire(schedule_id=schedule.pk) is False
    found = schedules.enable(name="nightly", actor="ann")
    assert found.next_fire_at > datetime.now(UTC)
    assert not Run.objects.exists()


def test_change__of_the_cron_counts_from_now(line):
    overdue(make(cron=HOURLY, catch_up="all"), whole_minutes_ago(180))
    found = schedules.change(name="nightly", cron="30 * * * *", actor="ann")
    assert found.next_fire_at > datetime.now(UTC)
    assert found.next_fire_at.minute == 30


def test_change__of_the_input_alone_keeps_what_is_owed(line):
    schedule = overdue(make(cron=HOURLY), whole_minutes_ago(180))
    found = schedules.change(name="nightly", input={"count": 1}, actor="ann")
    assert found.next_fire_at == schedule.next_fire_at


def test_change__of_the_automation_is_refused(line):
    make()
    with pytest.raises(InputInvalidError, match="automation: cannot be changed"):
        schedules.change(name="nightly", automation="lab.booking", actor="ann")


def test_remove__keeps_the_runs(line):
    due()
    schedules.fire_due(limit=10)
    schedules.remove(name="nightly", actor="ann")
    assert Run.objects.count() == 1
    with pytest.raises(NotFoundError):
        selectors.schedule(name="nightly")


# --- what is not valid -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "fields"),
    [
        ({"name": "no spaces"}, ["name"]),
        ({"name": "new\n"}, ["name"]),
        ({"cron": "61 * * * *"}, ["cron"]),
        ({"cron": "* " * 60}, ["cron"]),
        ({"time_zone": "Mars/Olympus"}, ["time_zone"]),
        ({"time_zone": "x" * 100}, ["time_zone"]),
        ({"automation": "no.such"}, ["automation"]),
        ({"input": {"count": "many"}}, ["input.count"]),
        ({"input": {"colour": 1}}, ["input.colour"]),
        ({"input": [1]}, ["input"]),
        ({"catch_up": "some"}, ["catch_up"]),
        ({"catch_up_limit": 0}, ["catch_up_limit"]),
        (
            {"cron": "x", "time_zone": "y", "input": {"count": -1}},
            ["cron", "time_zone", "input.count"],
        ),
    ],
)
def test_create__refuses_and_names_every_field(line, values, fields):
    with pytest.raises(InputInvalidError) as caught:
        make(**values)
    assert [problem["field"] for problem in caught.value.problems] == fields
    assert not Schedule.objects.exists()


def test_create__refuses_a_name_that_is_taken(line):
    make()
    with pytest.raises(InputInvalidError) as caught:
        make()
    assert caught.value.problems[0]["field"] == "name"


def test_schedule__whose_input_is_valid_no_more_moves_on_and_says_why(line, caplog):
    bad, good = due("a-bad", minutes=1), due("b-good")
    at = bad.next_fire_at
    Schedule.objects.filter(pk=bad.pk).update(input={"count": "many"})
    for _ in range(2):
        overdue(bad, at)
        overdue(good, at + MINUTE)
        assert schedules.fire_due(limit=10) == 2
    bad.refresh_from_db()
    assert "count" in bad.error
    assert bad.next_fire_at > datetime.now(UTC)
    assert bad.last_fire_at is None
    assert fire_times_of(good)
    assert sum("schedule_refused" in record.getMessage() for record in caplog.records) == 1
    found = schedules.change(name="a-bad", input={"count": 1}, actor="ann")
    assert found.error == ""
    overdue(bad, at)
    schedules.fire_due(limit=10)
    assert Run.objects.filter(created_by="schedule:a-bad").count() == 1


def test_schedule__of_an_automation_that_is_gone_moves_on(line, monkeypatch):
    schedule = due()
    rest = {n: a for n, a in registry.automations.items() if n != "lab.squares"}
    monkeypatch.setattr(registry, "automations", rest)
    assert schedules.fire_due(limit=10) == 1
    schedule.refresh_from_db()
    assert "lab.squares" in schedule.error
    assert schedule.next_fire_at > datetime.now(UTC)
    assert Automation.objects.filter(pk="lab.squares").exists()


def test_schedule__whose_zone_is_gone_stops_until_it_is_mended(line):
    schedule = due()
    Schedule.objects.update(time_zone="Mars/Olympus")
    schedules.fire_due(limit=10)
    schedule.refresh_from_db()
    assert (schedule.next_fire_at, "Mars" in schedule.error) == (None, True)
    found = schedules.change(name="nightly", time_zone="Europe/Berlin", actor="ann")
    assert (found.error, found.next_fire_at > datetime.now(UTC)) == ("", True)


def test_an_authors_error__is_stored_by_its_class_only(line, monkeypatch):
    schedule = due()

    def fail(**_values):
        raise KeyError("password=hunter2")

    monkeypatch.setattr(runs, "validated_input", fail)
    schedules.fire_due(limit=10)
    schedule.refresh_from_db()
    assert schedule.error == "unexpected error: KeyError"
    assert schedule.next_fire_at > datetime.now(UTC)


def test_a_database_error__keeps_the_fire_time_due_and_lets_the_others_go_on(line, monkeypatch):
    _bad, good = due("a-bad", minutes=1), due("b-good")
    real = runs.submit

    def submit(**values):
        if values["created_by"] == "schedule:a-bad":
            with connection.cursor() as cursor:
                cursor.execute("SELECT nothing FROM nowhere")
        return real(**values)

    monkeypatch.setattr(runs, "submit", submit)
    with pytest.raises(Exception, match="nowhere"):
        schedules.fire_due(limit=10)
    assert fire_times_of(good)
    monkeypatch.undo()
    assert schedules.fire_due(limit=10) == 1
    assert Run.objects.filter(created_by="schedule:a-bad").count() == 1
