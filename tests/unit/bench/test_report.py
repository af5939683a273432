import pytest

from tests.bench import costs, report, targets
from tests.bench.usage import Memory


def test_rows__medians_ratios_and_the_target():
    figures = {"W2": {"raw": [900.0, 1000.0, 1400.0], "durable": [500.0], "ours": [2500.0]}}
    (row,) = report.rows(figures, targets.verdicts(figures))
    assert dict(zip(report.HEADS, row, strict=True)) == {
        "median": "W2 1,000 + join, steps/s",
        "R": "1,000",
        "F": "500",
        "ours": "2,500",
        "/ R": "2.50",
        "/ F": "5.00",
        "target": ">= 3 x R",
        "": "MISSED",
    }


def test_rows__an_absolute_target_has_no_baseline():
    figures = {"API run": {"ours": [24.0]}}
    (row,) = report.rows(figures, targets.verdicts(figures))
    assert row[1:] == ["", "", "24.0", "", "", "<= 25", "ok"]


def test_span_rows__smallest_to_largest():
    figures = {"W2": {"raw": [900.0, 1000.0, 1400.0], "ours": [2500.0]}}
    assert report.span_rows(figures) == [["W2 1,000 + join", "900 - 1,400", "", "2,500 - 2,500"]]


def test_rows__what_was_not_measured_has_none():
    assert report.rows({}, []) == []


def account(**values):
    found = {
        "seconds": 2.0,
        "steps": 100,
        "commits": 250.0,
        "commands": {"brpop": 50.0},
        "cpu": {"worker parent": 0.2, "web": 0.05},
        "updates": {"engine_run": 10.0},
        "hot_updates": {"engine_run": 9.0},
    }
    return costs.Account(**(found | values))


def test_account__less_what_happens_anyway():
    idle = account(
        commits=10.0, commands={"brpop": 5.0}, cpu={"web": 0.01}, updates={}, hot_updates={}
    )
    found = account().less(idle, times=2.0)
    assert found.commits == 230.0
    assert found.commands == {"brpop": 40.0}
    assert found.cpu["web"] == pytest.approx(0.03)
    assert found.steps == 100


def test_account__per_step_in_milliseconds_and_shares():
    found = account().per_step()
    assert found["commits"] == 2.5
    assert found["commands"] == 0.5
    assert found["cpu_ms"] == pytest.approx({"worker parent": 2.0, "web": 0.5})
    assert found["hot_share"] == {"engine_run": 0.9}


def test_net__neither_prods_nor_what_happens_anyway():
    work = account(seconds=7.0, cpu_seconds=4.0, commits=100.0, cpu={"web": 0.3}, commands={})
    prods = account(seconds=3.0, commits=20.0, commands={}, updates={}, hot_updates={})
    idle = account(
        seconds=2.0, cpu_seconds=2.0, commits=10.0, cpu={"web": 0.1}, updates={}, hot_updates={}
    )
    found = costs.net(work, prods=prods, idle=idle)
    # Four seconds more than the prods alone took, at five commits a second.
    assert found.commits == 100.0 - 20.0 - 20.0
    assert found.cpu == pytest.approx({"web": 0.3 - 0.2})
    assert found.steps == 100


def test_account__a_table_without_updates_has_no_share():
    assert account(updates={"engine_run": 0.0}).per_step()["hot_share"] == {"engine_run": None}


def test_cost_rows__a_column_a_workload():
    heads, rows = report.cost_rows({"W1": account().per_step(), "W2": account().per_step()})
    assert heads == ["a step", "W1", "W2"]
    assert ["commits", "2.50", "2.50"] in rows
    assert ["CPU ms, all", "2.500", "2.500"] in rows
    assert ["HOT updates, engine_run", "90%", "90%"] in rows


def test_memory_rows__backends_are_one_row_and_shared_pages_count_once():
    class Found:
        memory = (
            ("web", Memory(resident=100.0, proportional=60.0)),
            ("postgres child 1", Memory(resident=30.0, proportional=5.0)),
            ("postgres child 2", Memory(resident=30.0, proportional=7.0)),
        )

    assert report.memory_rows(Found) == [
        ["web", "100", "60"],
        ["postgres, 2 children, each (median)", "", "6"],
        ["all", "", "72"],
    ]
