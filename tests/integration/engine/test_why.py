"""Why a run is not further: what each cause names, and what asking costs."""

from __future__ import annotations

import json
from datetime import timedelta

from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from engine import dead_letters, execution, lanes, leases, runs, why
from engine.causes import WaitCause
from engine.models import DeadLetter, Effect, StepRun
from engine.representations import WhyEntry
from tests.integration.engine.test_runs import settle, start
from tests.waiting import present


def reasons(run_id):
    return {found.step: found.reason for found in why.explain(run_id=run_id).steps}


def test_why__names_parents_and_how_many_of_them_are_open(line):
    run_id = start("lab.squares", count=3)
    for _ in range(2):
        execution.execute(step_run_ids=[line.messages.pop(0).id], worker="w/1")
    found = reasons(run_id)["total"]
    assert found.cause == WaitCause.DEPENDENCY
    assert found.details == {"parents": ["square"]}
    assert found.text == "waits for square (3 open)"


def test_why__names_the_dead_letter_upstream_also_behind_others(line, tmp_path):
    run_id = start("lab.fragile", folder=str(tmp_path))
    settle(line, run_id, "blocked")
    letter = DeadLetter.objects.get()
    found = why.explain(run_id=run_id)
    (last,) = found.steps
    assert last.reason.cause == WaitCause.UPSTREAM_DEAD_LETTER
    assert last.reason.details["dead_letter_id"] == letter.pk
    assert last.reason.details["parents"] == ["fragile"]
    assert f"dlq requeue {letter.pk} --apply" in last.text
    assert found.run.cause == WaitCause.BLOCKED
    assert [named["dead_letter_id"] for named in found.run.details["dead_letters"]] == [letter.pk]
    (tmp_path / "mended").touch()
    dead_letters.requeue(dead_letter_id=letter.pk, actor="ann")
    assert {r.cause for r in reasons(run_id).values()} >= {WaitCause.DEPENDENCY}


def test_why__says_which_worker_holds_a_step_as_which(line):
    run_id = start("lab.squares", count=1)
    (message,) = line.messages
    present("lab", held=[message.id + 1000, message.id])
    found = reasons(run_id)["numbers"]
    assert found.cause == WaitCause.HELD
    assert found.details == {"worker": "w@here", "position": 2, "held": 2, "queue": "lab"}
    assert found.text == "held by the worker w@here as 2 of 2"


def test_why__tells_a_full_department_from_a_busy_worker(line):
    present("lab")
    lanes.limit(slug="lab", max_concurrency=1)
    one, two = start("lab.squares", count=1), start("lab.squares", count=1)
    line.manage()
    causes = [reasons(run_id)["numbers"] for run_id in (one, two)]
    causes.sort(key=lambda found: found.cause.value)
    full, sent = causes
    assert (full.cause, sent.cause) == (WaitCause.CONCURRENCY, WaitCause.QUEUED)
    assert (full.details["limit"], full.details["in_flight"]) == (1, 1)


def test_why__tells_a_backlog_from_a_manager_that_is_away(line):
    present("lab")
    sent = start("lab.squares", count=1)
    line.backed_up = {"lab"}
    waiting = start("lab.squares", count=1)
    assert reasons(waiting)["numbers"].cause == WaitCause.DISPATCH
    StepRun.objects.filter(run_id=waiting).update(ready_at=Now() - timedelta(seconds=9))
    found = reasons(waiting)["numbers"]
    assert (found.cause, found.details["sent_at"]) == (WaitCause.QUEUED, None)
    assert "in line behind others of lab" in found.text
    runs.cancel(run_id=sent, actor="ann")
    assert reasons(waiting)["numbers"].cause == WaitCause.DISPATCH


def test_why__names_the_missing_worker_also_behind_a_backlog(line):
    start("lab.squares", count=1)
    line.backed_up = {"lab"}
    waiting = start("lab.squares", count=1)
    assert reasons(waiting)["numbers"].cause == WaitCause.NO_WORKER


def test_why__shows_lease_and_silence_of_who_runs_it(line):
    run_id = start("lab.squares", count=1)
    (held,) = leases.claim(step_run_ids=[line.messages[0].id], worker="w/1")
    found = reasons(run_id)["numbers"]
    assert found.cause == WaitCause.RUNNING
    assert found.details["worker"] == "w/1"
    assert found.details["lease_expires_at"] is not None
    with connection.cursor() as cursor:
        cursor.execute("UPDATE engine_lease SET expires_at = clock_timestamp() - interval '1 s'")
    assert reasons(run_id)["numbers"].cause == WaitCause.WORKER_SILENT
    runs.cancel(run_id=run_id, actor="ann")
    leases.renew(step=held)
    found = why.explain(run_id=run_id)
    assert found.run.cause == WaitCause.RUN_ENDING
    assert found.steps[0].reason.cause == WaitCause.CANCELLING


def test_why__asks_a_fixed_number_of_questions(line):
    counts = []
    for items in (1, 40):
        run_id = start("lab.squares", count=items)
        for _ in range(2):
            execution.execute(step_run_ids=[line.messages.pop(0).id], worker="w/1")
        with CaptureQueriesContext(connection) as orm, counting() as raw:
            assert len(why.explain(run_id=run_id).steps) == items + 1
        counts.append((len(orm), len(raw)))
        line.messages.clear()
    assert counts[0] == counts[1]
    assert sum(counts[0]) <= 9


def test_why__is_json_with_details(line):
    run_id = start("lab.squares", count=1)
    entries = [WhyEntry.of(s).model_dump(mode="json") for s in why.explain(run_id=run_id).steps]
    assert json.loads(json.dumps(entries)) == entries
    assert {"step_id", "step", "state", "reason_code", "text", "details"} == set(entries[0])


def test_why__asks_whether_an_unknown_effect_was_done(line):
    run_id = start("lab.squares", count=1)
    row = StepRun.objects.get(run_id=run_id, key="numbers")
    leases.claim(step_run_ids=[row.pk], worker="w/1")
    StepRun.objects.filter(pk=row.pk).update(state="awaiting", claim=None)
    assert reasons(run_id)["numbers"].cause == WaitCause.AWAITING
    effect = Effect.objects.create(
        run_id=run_id,
        step_run=row,
        name="mail",
        key="k",
        state="unknown",
        attempt=1,
        planned_at=row.ready_at,
        sent_at=row.ready_at,
    )
    found = reasons(run_id)["numbers"]
    assert found.cause == WaitCause.EFFECT_UNKNOWN
    assert found.details["effect_id"] == effect.pk


class counting:  # noqa: N801 - reads as a function
    """Count the statements of `engine.sql`, which Django does not see."""

    def __enter__(self):
        from engine import sql  # noqa: PLC0415 - patched here

        self._sql, self._rows, self.seen = sql, sql.rows, []

        def rows(statement, parameters=None):
            self.seen.append(statement)
            return self._rows(statement, parameters)

        sql.rows = rows
        return self.seen

    def __exit__(self, *_error):
        self._sql.rows = self._rows
