import json
from concurrent.futures import ThreadPoolExecutor
from io import StringIO

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection

from departments import selectors as departments
from departments import sync
from departments.models import Automation, Department
from engine import registry, runs, selectors
from engine.errors import GraphInvalidError
from engine.models import Artifact, AutomationVersion, DeadLetter, Lane, Run
from tests.integration.faces import work


def command(*args):
    out = StringIO()
    call_command(*args, stdout=out)
    return out.getvalue()


def document(*args):
    return json.loads(command(*args, "--json"))


def refused(*args):
    with pytest.raises(CommandError) as caught:
        command(*args)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_start__parses_values_by_the_inputs_schema(line):
    run = document("runs", "start", "lab.squares", "--input", "count=4", "--input", "seconds=0.5")
    assert run["input"] == {"count": 4, "seconds": 0.5}
    assert (run["trigger"], run["created"]) == ("command", True)


def test_start__with_a_used_dedupe_key_starts_nothing(line):
    first = document("runs", "start", "lab.squares", "--dedupe-key", "k")
    again = document("runs", "start", "lab.squares", "--dedupe-key", "k")
    assert (again["id"], again["created"]) == (first["id"], False)


def test_start__stores_a_file_for_its_field(line, tmp_path):
    (tmp_path / "bank.csv").write_text("a;b\n")
    given = f"ledger={tmp_path / 'bank.csv'}"
    run = document("runs", "start", "finance.cashflow_report", "--file", given)
    assert run["input"]["ledger"]["name"] == "bank.csv"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["no.such"], ["no.such", "lab.squares"]),
        (["lab.squares", "--input", "count=x"], ["count", "integer", "--input"]),
        (["lab.squares", "--input", "colour=x"], ["colour", "count (integer)"]),
        (["lab.squares", "--input", "count"], ["KEY=VALUE"]),
        (["lab.squares", "--input", "count=1", "--input", "count=2"], ["count", "2 times"]),
        (["finance.cashflow_report", "--file", "ledger=/no/such"], ["ledger", "does not exist"]),
        (["finance.cashflow_report", "--file", "ledger=/tmp"], ["ledger", "is not a file"]),
        (["finance.cashflow_report", "--file", "colour=/tmp"], ["colour", "ledger"]),
        (["lab.squares", "--deadline", "0"], ["--deadline"]),
    ],
)
def test_start__refuses_in_one_line_with_the_remedy(line, args, words):
    text = refused("runs", "start", *args)
    assert all(word in text for word in words), text
    assert not Run.objects.exists()
    assert not Artifact.objects.exists()


def test_watch__exits_1_unless_the_run_succeeds(line, tmp_path):
    run = document("runs", "start", "lab.fragile", "--input", f"folder={tmp_path}")
    work(line)
    with pytest.raises(SystemExit) as caught:
        command("runs", "watch", run["id"])
    assert caught.value.code == 1
    (tmp_path / "mended").touch()
    letter = DeadLetter.objects.get()
    assert "Nothing is changed" in command("dlq", "requeue", str(letter.pk))
    assert f"#{letter.pk} requeued" in command("dlq", "requeue", str(letter.pk), "--apply")
    work(line)
    assert "succeeded" in command("runs", "watch", run["id"])


def test_list_and_show__print_whole_ids(line):
    run = document("runs", "start", "lab.squares")
    work(line)
    assert run["id"] in command("runs", "list")
    assert document("runs", "list", "--state", "failed") == []
    shown = document("runs", "show", run["id"], "--events")
    assert shown["output"] == 5
    assert {step["state"] for step in shown["steps"]} == {"succeeded"}
    assert shown["events"]
    assert "total" in command("runs", "show", run["id"])


def test_list__finds_by_correlation_and_error(line):
    run = document("runs", "start", "lab.squares")
    document("runs", "start", "lab.squares")
    Run.objects.filter(pk=run["id"]).update(correlation_id="order-1", error_code="odd")
    for name, value in (("--correlation-id", "order-1"), ("--error-code", "odd")):
        assert [row["id"] for row in document("runs", "list", name, value)] == [run["id"]]


def test_retry__tries_dead_steps_again(line, tmp_path):
    run = document("runs", "start", "lab.fragile", "--input", f"folder={tmp_path}")
    assert "none of its steps is dead" in refused("runs", "retry", run["id"])
    work(line)
    (tmp_path / "mended").touch()
    assert document("runs", "retry", run["id"])[0]["generation"] == 2
    work(line)
    assert document("runs", "show", run["id"])["state"] == "succeeded"


@pytest.mark.parametrize("verb", ["show", "why", "watch", "cancel", "pause", "resume", "retry"])
def test_run_commands__refuse_an_unknown_run_in_one_line(line, verb):
    assert "not the id of a run" in refused("runs", verb, "x")
    assert "no run" in refused("runs", verb, "0" * 32)


def test_steering__changes_the_run(line):
    run = document("runs", "start", "lab.squares")
    assert document("runs", "pause", run["id"])[0]["state"] == "paused"
    assert "paused; resume it" in command("runs", "why", run["id"])
    told = document("runs", "why", run["id"])
    assert told["run"]["reason_code"] == "run_paused"
    assert {step["reason_code"] for step in told["results"]} == {"run_paused", "dependency"}
    document("runs", "resume", run["id"])
    assert document("runs", "cancel", run["id"])[0]["state"] == "cancelled"
    assert "cancelled" in refused("runs", "cancel", run["id"])


def test_show__of_an_unexpected_error_says_where_to_look_for_it(line):
    run = document("runs", "start", "lab.secret")
    work(line)
    letter = DeadLetter.objects.get()
    assert letter.error_code == "unexpected_error"
    shown = command("dlq", "show", str(letter.pk))
    assert f"manage.py logs --run {run['id']}" in shown


def test_discard__is_a_dry_run_unless_applied(line, tmp_path):
    document("runs", "start", "lab.fragile", "--input", f"folder={tmp_path}")
    work(line)
    letter = DeadLetter.objects.get()
    for args in (["discard", str(letter.pk)], ["discard", "--all"], ["requeue", "--all"]):
        assert "Nothing is changed" in command("dlq", *args)
        assert DeadLetter.objects.get().state == "open"
    assert document("dlq", "list")[0]["id"] == letter.pk
    assert document("dlq", "show", str(letter.pk))["error"]["code"] == "broken"
    document("dlq", "discard", str(letter.pk), "--apply")
    assert selectors.run(run_id=letter.run_id).state == "failed"
    assert "discarded" in refused("dlq", "requeue", str(letter.pk), "--apply")
    assert "--all" in refused("dlq", "requeue")


def test_runs__obey_nothing_that_a_step_said(line):
    run = runs.submit(automation="lab.squares", input={"count": 1}, trigger="command").run_id
    Run.objects.update(error_code="broken", error_message="a\x1b]0;mine\x07\nState      succeeded")
    said = command("runs", "show", str(run))
    assert "broken: a\\x1b]0;mine\\x07\\x0aState" in said
    assert said.replace("\n", "").isprintable()


def test_departments__pause_and_resume(line):
    assert document("departments", "pause", "lab")[0]["paused"] is True
    assert "paused" in command("departments", "list")
    assert document("departments", "resume", "lab")[0]["paused"] is False
    assert "none" in refused("departments", "pause", "none")


def test_mint_jwt__prints_a_token_the_api_takes(db, client, settings):
    settings.STATIC_ROOT = None
    token = command("mint_jwt", "--scopes", "runs.read,runs.write", "--subject", "ann").strip()
    assert token.count(".") == 2
    body = client.get("/auth/me", HTTP_AUTHORIZATION=f"Bearer {token}").json()
    assert (body["subject"], body["scopes"]) == ("ann", ["runs.read", "runs.write"])


def test_mint_jwt__refuses_unknown_scopes_with_the_list():
    text = refused("mint_jwt", "--scopes", "runs.read,runs.fly")
    assert "runs.fly" in text
    assert "dead_letters.write" in text
    assert "--ttl" in refused("mint_jwt", "--scopes", "runs.read", "--ttl", "0")


def test_sync__is_idempotent_and_keeps_what_is_withdrawn(line, monkeypatch):
    versions = AutomationVersion.objects.count()
    Lane.objects.filter(slug="lab").update(paused=True)
    assert document("sync_catalog")["new_versions"] == 0
    assert AutomationVersion.objects.count() == versions
    assert Lane.objects.get(slug="lab").paused
    rest = {n: a for n, a in registry.automations.items() if n != "lab.squares"}
    monkeypatch.setattr(registry, "automations", rest)
    sync.sync_catalog()
    assert Automation.objects.get(name="lab.squares").declared is False
    monkeypatch.undo()
    sync.sync_catalog()
    assert Automation.objects.get(name="lab.squares").declared is True


def test_sync__by_several_at_once_stores_each_version_once(transactional_db):
    def one(_number):
        try:
            return sync.sync_catalog().new_versions
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        fresh = list(pool.map(one, range(4)))
    assert sorted(fresh)[:3] == [0, 0, 0]
    assert AutomationVersion.objects.count() == len(registry.automations) == max(fresh)
    assert Department.objects.count() == len(departments.queues())


def test_sync__refuses_a_catalog_with_problems_and_withdraws_nothing(line, monkeypatch):
    monkeypatch.setattr(registry, "problems", ["finance.py: broken"])
    monkeypatch.setattr(registry, "automations", {})
    with pytest.raises(GraphInvalidError, match="broken"):
        sync.sync_catalog()
    assert Automation.objects.filter(declared=True).exists()
