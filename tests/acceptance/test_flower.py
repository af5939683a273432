"""Flower as `up` starts it: nobody looks without the password, and whoever looks sees words."""

from __future__ import annotations

import re
import subprocess
import sys

import httpx
import pytest
from flower.urls import handlers

from tests.acceptance.stack import ROOT, TLS
from tests.eventually import eventually

#: What a browser or a probe may ask without a password: files, a word of life, the way in and out.
OPEN = {"/static/x", "/healthcheck", "/login", "/logout"}
REFUSED, NO_SUCH_METHOD, FORBIDDEN = 401, 405, 403
COLUMNS = ("name", "uuid", "state", "args", "kwargs", "worker")


@pytest.fixture(scope="module")
def flower(stack):
    """A client of this installation's Flower who knows the password."""
    password = (stack.var / "secrets" / "flower_password").read_text().strip()
    with httpx.Client(
        base_url=f"http://127.0.0.1:{5555 + stack.shift}",
        auth=("operator", password),
        timeout=30,
        verify=TLS,
    ) as client:
        eventually(lambda: client.get("/healthcheck").status_code == 200, within=30)
        yield client


def paths() -> list[str]:
    """Return every address Flower knows, the one for what it does not know left out."""
    patterns = [getattr(one, "regex", None) or re.compile(one[0]) for one in handlers]
    found = [re.sub(r"\(.*?\)", "x", one.pattern.rstrip("$")) for one in patterns]
    return [path.replace("/?", "") for path in found if path != ".*"]


@pytest.mark.parametrize("auth", [None, ("operator", "wrong-password"), ("operator", "pässword")])
def test_flower__shows_nothing_without_the_password(flower, auth):
    asked = 0
    with httpx.Client(base_url=flower.base_url, timeout=30, verify=TLS) as stranger:
        for path in paths():
            if path in OPEN:
                continue
            answers = {
                stranger.request(method, path, auth=auth).status_code for method in ("GET", "POST")
            }
            assert REFUSED in answers, path
            assert answers <= {REFUSED, NO_SUCH_METHOD}, (path, answers)
            asked += 1
    assert asked > 25
    assert "/metrics" in paths()


def test_flower__shows_workers_and_queues_to_who_has_it(flower, stack):
    assert flower.get("/metrics").status_code == 200
    for page in ("/", "/tasks", "/broker"):
        assert flower.get(page).status_code == 200, page
    workers = eventually(lambda: flower.get("/api/workers?refresh=1").json(), within=30)
    assert {name.partition("@")[0] for name in workers} == {"orchestrator", "worker1"}
    queues = {one["name"] for one in flower.get("/api/queues/length").json()["active_queues"]}
    assert {"lab", "finance", "orchestrator", "dead_letter"} <= queues


def test_flower__only_looks(flower, stack):
    (worker,) = (name for name in flower.get("/api/workers").json() if name.startswith("worker1@"))
    pid = stack.find("worker").pid
    for act in ("worker/shutdown", "worker/pool/shrink"):
        assert flower.post(f"/api/{act}/{worker}").status_code == FORBIDDEN
    called = flower.post("/api/task/async-apply/orchestration.execute", json={"kwargs": {}})
    assert called.status_code == FORBIDDEN
    assert stack.find("worker").pid == pid


def control(stack, verb: str) -> None:
    """Turn events on or off at every worker, typed into a shell as the README says."""
    script = (
        f'eval "$({sys.executable} manage.py env)"\n'
        f"exec {sys.executable} -m celery -A config control {verb}"
    )
    subprocess.run(
        ["sh", "-ec", script],
        cwd=ROOT,
        env=stack.environment,
        check=True,
        capture_output=True,
        timeout=180,
    )


def seen(flower) -> list[dict]:
    query = {"draw": 1, "start": 0, "length": 1000, "search[value]": "", "order[0][column]": 0}
    query |= {f"columns[{n}][data]": name for n, name in enumerate(COLUMNS)}
    return flower.get("/tasks/datatable", params=query | {"order[0][dir]": "asc"}).json()["data"]


def test_flower__sees_tasks_on_demand_by_name_and_without_arguments(flower, stack):
    stack.reaches(stack.submit("lab.squares", count=3), "succeeded")
    before = len(seen(flower))
    control(stack, "enable_events")
    try:

        def shown():
            stack.reaches(stack.submit("lab.squares", count=3), "succeeded")
            return [one for one in seen(flower)[before:] if one["state"] == "SUCCESS"]

        tasks = eventually(shown, within=30)
    finally:
        control(stack, "disable_events")
    assert {one["name"] for one in tasks} == {"run steps"}
    for one in tasks:
        assert (one["args"], one["kwargs"]) == ("-", "-")
        assert one["worker"].partition("@")[0] in {"worker1", "orchestrator"}


def test_flower__sees_no_task_unless_asked_for(flower, stack):
    before = len(seen(flower))
    stack.reaches(stack.submit("lab.squares", count=3), "succeeded")
    assert len(seen(flower)) == before
