"""Submitting a run inside a transaction of the caller's."""

from __future__ import annotations

import time
from contextlib import nullcontext

import pytest
from django.db import connection, transaction

from engine import publishing, runs
from engine.models import AutomationVersion, Run, StepRun


def test_submit__inside_a_transaction_tells_workers_after_its_commit(line):
    with transaction.atomic():
        found = runs.submit(automation="lab.squares", input={"count": 1}, trigger="api")
        assert line.messages == []
    assert len(line.messages) == 1
    line.deliver()
    assert Run.objects.get(pk=found.run_id).state == "succeeded"


def test_submit__inside_a_transaction_that_is_rolled_back_tells_nobody(line):
    with transaction.atomic():
        runs.submit(automation="lab.squares", input={"count": 1}, trigger="api")
        transaction.set_rollback(True)
    assert line.messages == []
    assert not Run.objects.exists()


@pytest.mark.parametrize("inside", [False, True])
def test_submit__survives_a_database_restored_under_the_process(line, inside):
    runs.submit(automation="lab.squares", input={"count": 1}, trigger="api")
    line.messages.clear()
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE engine_automationversion, engine_run, engine_steprun CASCADE")
    with transaction.atomic() if inside else nullcontext():
        found = runs.submit(automation="lab.squares", input={"count": 1}, trigger="api")
    line.deliver()
    assert Run.objects.get(pk=found.run_id).state == "succeeded"


def test_submit__never_takes_the_version_of_something_else(line):
    runs.submit(automation="lab.squares", input={"count": 1}, trigger="api")
    line.messages.clear()
    # As in a backup of another day: the number is there, and stands for other content.
    taken = AutomationVersion.objects.get(automation="lab.squares")
    AutomationVersion.objects.filter(pk=taken.pk).update(checksum="another", automation="lab.old")
    found = runs.submit(automation="lab.squares", input={"count": 1}, trigger="api", dedupe_key="k")
    run = Run.objects.select_related("version").get(pk=found.run_id)
    assert (run.version.automation, run.version.pk) == ("lab.squares", run.version_id)
    assert run.version_id != taken.pk
    again = runs.submit(automation="lab.squares", input={"count": 1}, trigger="api", dedupe_key="k")
    assert (again.run_id, again.created) == (found.run_id, False)


def test_submit__outside_a_transaction_tells_at_once(line, monkeypatch):
    runs.submit(automation="lab.squares", input={"count": 1}, trigger="api")
    line.messages.clear()
    seen = []
    monkeypatch.setattr(publishing, "publish", lambda steps: seen.append(list(steps)))
    began = time.perf_counter()
    for _ in range(10_000):
        transaction.on_commit(lambda: None)
    print(f"\non_commit outside a transaction: {(time.perf_counter() - began) * 100:.2f} µs")
    runs.submit(automation="lab.squares", input={"count": 1}, trigger="api")
    assert len(seen) == 1


def test_submit__behind_a_backlog_leaves_its_roots_to_the_dispatcher(line):
    line.backed_up = {"lab"}
    found = [
        runs.submit(automation="lab.squares", input={"count": 0}, trigger="test", priority=priority)
        for priority in (0, 7)
    ]
    assert line.messages == []
    roots = StepRun.objects.filter(key="numbers")
    assert set(roots.values_list("state", flat=True)) == {"ready"}
    line.backed_up = set()
    line.manage()
    urgent = roots.get(run_id=found[1].run_id)
    assert line.messages[0].id == urgent.pk, "in line by priority"
    line.deliver()
    for one in found:
        assert Run.objects.get(pk=one.run_id).state == "succeeded"


def test_submit__a_backlog_of_another_queue_changes_nothing(line):
    line.backed_up = {"orchestrator", "finance"}
    runs.submit(automation="lab.squares", input={"count": 0}, trigger="test")
    assert len(line.messages) == 1


def test_submit__under_a_key_that_another_took_while_the_version_was_looked_up(line, monkeypatch):
    submit = {"automation": "lab.squares", "input": {"count": 1}, "trigger": "api"}
    runs.submit(**submit)
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE engine_automationversion, engine_run, engine_steprun CASCADE")
    forget = runs._forget_versions
    others = []

    def be_overtaken():
        forget()
        monkeypatch.setattr(runs, "_forget_versions", forget)
        others.append(runs.submit(**submit, dedupe_key="k").run_id)

    monkeypatch.setattr(runs, "_forget_versions", be_overtaken)
    found = runs.submit(**submit, dedupe_key="k")
    assert (found.run_id, found.created) == (others[0], False)
