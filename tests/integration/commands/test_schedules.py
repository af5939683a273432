import json
from datetime import UTC, datetime

import pytest

from departments.models import Schedule
from engine.models import Artifact
from tests.integration.commands.test_commands import command, document, refused

NIGHTLY = ["schedules", "add", "nightly", "lab.squares", "--cron", "30 2 * * *"]


def test_add_and_list__show_when_it_fires(line):
    (added,) = document(*NIGHTLY, "--time-zone", "Europe/Berlin", "--input", "count=4")
    assert added["input"] == {"count": 4}
    assert (added["catch_up"], added["enabled"], added["error"]) == ("latest", True, "")
    assert datetime.fromisoformat(added["next_fire_at"]) > datetime.now(UTC)
    (listed,) = document("schedules", "list")
    assert listed == added
    text = command("schedules", "list")
    assert all(word in text for word in ("nightly", "lab.squares", "Europe/Berlin", "30 2 * * *"))


def test_add__takes_a_file(line, tmp_path):
    (tmp_path / "bank.csv").write_text("a;b\n")
    args = ["schedules", "add", "monthly", "finance.cashflow_report", "--cron", "0 6 1 * *"]
    (added,) = document(*args, "--file", f"ledger={tmp_path / 'bank.csv'}", "--disabled")
    assert added["input"]["ledger"]["name"] == "bank.csv"
    assert (added["enabled"], added["next_fire_at"]) == (False, None)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["x", "lab.squares", "--cron", "61 * * * *"], ["cron", "minute"]),
        (
            ["x", "lab.squares", "--cron", "* * * * *", "--time-zone", "Mars/X"],
            ["time_zone", "Mars"],
        ),
        (["x", "lab.squares", "--cron", "* * * * *", "--catch-up-limit", "0"], ["catch_up_limit"]),
        (["x", "no.such", "--cron", "* * * * *"], ["no.such", "lab.squares"]),
        (["x y", "lab.squares", "--cron", "* * * * *"], ["name", "letters"]),
        (["x", "lab.squares", "--cron", "* * * * *", "--input", "count=-1"], ["input.count"]),
    ],
)
def test_add__refuses_in_one_line_that_names_the_field(line, args, words):
    text = refused("schedules", "add", *args)
    assert all(word in text for word in words), text
    assert not Schedule.objects.exists()
    assert not Artifact.objects.exists()


def test_disable_and_enable__stop_it_and_let_it_count_from_now(line):
    document(*NIGHTLY)
    assert document("schedules", "disable", "nightly")[0]["next_fire_at"] is None
    assert "disabled" in command("schedules", "list")
    assert document("schedules", "enable", "nightly")[0]["next_fire_at"]
    assert "none" in refused("schedules", "enable", "none")


def test_remove__is_a_dry_run_unless_applied(line):
    document(*NIGHTLY)
    assert "Nothing is changed" in command("schedules", "remove", "nightly")
    assert Schedule.objects.exists()
    assert "Removed 1" in command("schedules", "remove", "nightly", "--apply")
    assert not Schedule.objects.exists()


def test_next__shows_fire_times_by_the_clocks_of_the_zone(line):
    document(*NIGHTLY, "--time-zone", "Asia/Kolkata")
    times = document("schedules", "next", "--count", "3")["nightly"]
    assert len(times) == 3
    assert all(at.endswith("02:30:00+05:30") for at in times)
    assert json.loads(command("schedules", "next", "nightly", "--json", "--count", "1"))
    assert "02:30" in command("schedules", "next", "nightly")
    assert "--count" in refused("schedules", "next", "--count", "0")


def test_list__says_why_a_schedule_fails(line):
    document(*NIGHTLY)
    Schedule.objects.update(error="count: too small")
    assert "failing: count: too small" in command("schedules", "list")


def test_add__refuses_an_input_that_is_nested_too_deeply(line):
    deep = f"count={'[' * 100_000}"
    words = ("schedules", "add", "deep", "lab.squares", "--cron", "* * * * *", "--input", deep)
    assert "count" in refused(*words)
