"""The committed dashboards: what the code says, laid out well, and every query finds data."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import pytest

from deploy.observability.dashboards.__main__ import FOLDER, files
from tests.eventually import eventually
from tests.system.observability import faults

DASHBOARDS = {path.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
COLUMNS = 24
#: What Grafana puts in place of its variables; a minute is what there is of a test.
VARIABLES = {"$__rate_interval": "30s", "$__range": "5m", "$department": ".*"}
#: In PromQL: what is quoted, and what is named by several words and is no function.
TEXT = re.compile(r'"[^"]*"')
SERIES = re.compile(r"\b[a-z]+(?:[_:][a-zA-Z0-9]+)+\b(?!\s*\()")
#: How often each kind of work is done, so that rates have something to see.
ROUNDS = 4


def panels(name: str) -> list[dict]:
    return [panel for panel in DASHBOARDS[name]["panels"] if panel["type"] != "row"]


def queries() -> list[tuple[str, str, str]]:
    """Return (dashboard, panel, PromQL) of every query of every panel."""
    return [
        (name, panel["title"], target["expr"])
        for name in DASHBOARDS
        for panel in panels(name)
        for target in panel["targets"]
    ]


def test_files__are_what_the_code_writes():
    assert {path.name: path.read_text() for path in FOLDER.glob("*.json")} == files()


def test_dashboards__are_the_contract_s():
    assert {"dashboard_ai_business_engine.json", "dashboard_api_slo.json"} < set(DASHBOARDS)
    assert len({found["uid"] for found in DASHBOARDS.values()}) == len(DASHBOARDS) == 4


@pytest.mark.parametrize("name", DASHBOARDS)
def test_layout__rows_are_filled_and_nothing_overlaps(name):
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARDS[name]["panels"]:
        place = panel["gridPos"]
        cells = {
            (column, line)
            for column in range(place["x"], place["x"] + place["w"])
            for line in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} lies on another panel"
        assert max(column for column, _ in cells) < COLUMNS
        taken |= cells
    for line in range(max(line for _, line in taken) + 1):
        assert sum((column, line) in taken for column in range(COLUMNS)) == COLUMNS, line
    kinds = [panel["type"] for panel in DASHBOARDS[name]["panels"]]
    assert kinds[0] == "row"
    assert kinds[-1] != "row"
    assert ("row", "row") not in set(pairwise(kinds)), "an empty row"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels__have_title_explanation_unit_and_legends(name):
    titles = [panel["title"] for panel in panels(name)]
    for panel in panels(name):
        shown = panel["fieldConfig"]["defaults"]
        assert panel["title"], "a panel without a title"
        assert panel["description"].endswith("."), panel["title"]
        assert shown["unit"], panel["title"]
        assert panel["targets"], panel["title"]
        if panel["type"] == "timeseries":
            assert all(one["legendFormat"] != "__auto" for one in panel["targets"])
    rows = [panel["title"] for panel in DASHBOARDS[name]["panels"] if panel["type"] == "row"]
    assert len(set(rows)) == len(rows)
    assert len(titles) >= 8


@pytest.fixture(scope="module")
def worked(watched, monitoring, tmp_path_factory):
    """Do a little of everything, again and again: a rate needs a before and an after."""

    def work(number: int) -> None:
        ended = [
            (watched.submit("lab.squares", count=3), "succeeded"),
            (
                watched.submit("lab.fragile_fail", folder=str(tmp_path_factory.mktemp("broken"))),
                "failed",
            ),
        ]
        data = json.dumps({"count": 2})
        fields = {"event_type": "automation.run.requested", "automation": "lab.booking"}
        watched.redis().xadd("automation.events", {**fields, "data": data})
        for run_id, state in ended:
            watched.reaches(run_id, state)
        assert watched.call("GET", "/runs").status_code == 200
        assert watched.call("GET", f"/runs/{ended[0][0]}").status_code == 200
        assert watched.call("GET", "/runs/no-such-run").status_code == 404
        # Prometheus has seen this round before the next one begins.
        at = time_of_last_scrape(monitoring)
        eventually(lambda: time_of_last_scrape(monitoring) > at + 1, within=20, what=number)

    for number in range(ROUNDS):
        work(number)
    # Five minutes without a request are five seconds here, and then the API has no latency.
    with faults.requests(watched, "/runs?limit=5", threads=1):
        yield


def time_of_last_scrape(monitoring) -> float:
    return min(monitoring.query('timestamp(up{job=~"web|manager|worker"})'))


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_queries__each_returns_data_from_the_running_stack(monitoring, worked):
    def without() -> list[tuple[str, str, str]]:
        found = []
        for name, title, query in queries():
            concrete = query
            for variable, value in VARIABLES.items():
                concrete = concrete.replace(variable, value)
            assert "$" not in concrete, f"{title}: a variable this test does not know: {query}"
            if not monitoring.query(concrete):
                found.append((name, title, concrete))
        return found

    missing: list[list[tuple[str, str, str]]] = [[]]

    def all_answered() -> bool:
        missing[0] = without()
        return not missing[0]

    try:
        eventually(all_answered, within=20)
    except AssertionError:
        pytest.fail("no data:\n" + "\n".join(map(str, missing[0])))


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_queries__name_only_series_that_there_are(monitoring, worked):
    """`or vector(0)` answers for any name: each name is looked up by itself."""
    silent = {"llm_cost_usd_total", "llm_tokens_total", "circuit_breakers_opened_total"}
    names = {name for _, _, query in queries() for name in SERIES.findall(TEXT.sub("", query))}
    assert names >= {"automation_runs_total", "queue:depth", *silent}
    found = {name for name in names if monitoring.query(f"count(last_over_time({name}[5m]))")}
    assert names - silent - found == set()
