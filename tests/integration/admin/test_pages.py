import re

import pytest
from django.contrib import admin
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils.html import escape

from engine import artifacts, runs, selectors
from engine.admin import reading
from engine.models import Artifact, DeadLetter, Lane, Run
from tests import seed
from tests.integration.faces import work


def submit(name="lab.squares", **given):
    return runs.submit(automation=name, input=given, trigger="api", created_by="ann").run_id


@pytest.fixture
def letter(operator, line, tmp_path):
    submit("lab.fragile", folder=str(tmp_path))
    work(line)
    return DeadLetter.objects.get()


def test_every_list__opens_for_an_operator_and_counts_no_big_table(operator, line):
    for _ in range(3):
        submit()
    work(line)
    for model in admin.site._registry:
        if model._meta.app_label not in {"engine", "departments", "auth"}:
            continue
        address = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert operator.get(address).status_code == 200, address
        if model._meta.app_label != "engine":
            continue
        counts = [q["sql"] for q in queries if "COUNT(*)" in q["sql"]]
        assert all("LIMIT" in sql for sql in counts), counts


def test_list__of_a_huge_table_offers_no_page_that_reads_all_before_it(operator, monkeypatch):
    monkeypatch.setattr(reading, "COUNTED_ROWS", 200)
    seed.finish(runs=1000)
    shown = operator.get("/admin/engine/run/").content.decode()
    assert max(int(page) for page in re.findall(r"[?;&]p=(\d+)", shown)) == 4
    assert "1000" in shown.replace(",", ""), "the number of all is still estimated"


def lists():
    """Return (model, address) of each list of ours that nobody adds to by a form."""
    return [
        (model, f"/admin/{model._meta.app_label}/{model._meta.model_name}/")
        for model, page in admin.site._registry.items()
        if isinstance(page, reading.ReadingAdmin)
    ]


def test_empty_list__says_what_would_be_there_and_offers_nothing_that_does_nothing(operator):
    looked = 0
    for model, address in lists():
        if model.objects.exists():
            continue
        looked += 1
        page = operator.get(address).content.decode()
        assert f"No {model._meta.verbose_name_plural} yet" in page
        assert escape(admin.site._registry[model].empty_text) in page
        assert "." in admin.site._registry[model].empty_text, address
        assert "Show all" not in page, "all is shown"
        assert "reset your filters" not in page
    assert looked > 6


def test_list__says_that_nothing_matches_and_how_to_see_all(operator, line):
    submit()
    page = operator.get("/admin/engine/run/?state__exact=failed").content.decode()
    assert "Nothing matches" in page
    assert "Show all" in page
    assert "Show all" not in operator.get("/admin/engine/run/").content.decode()
    page = operator.get("/admin/engine/run/?q=lab.squares").content.decode()
    assert "1 result (" in page


def test_pages__write_moments_to_the_second_and_names_as_they_are(operator, line, letter):
    page = operator.get(f"/admin/engine/deadletter/{letter.pk}/change/").content.decode()
    assert f"{letter.created_at:%Y-%m-%d %H:%M:%S}" in page
    page = operator.get("/admin/departments/automation/lab.squares/change/").content.decode()
    assert "Lab.squares" not in page
    assert ">lab.squares</a>" in page


def test_every_page__opens_and_offers_no_form(operator, line, letter):
    for model in (Run, DeadLetter):
        row = model.objects.first()
        address = f"/admin/engine/{model._meta.model_name}/{row.pk}/change/"
        page = operator.get(address).content.decode()
        assert 'name="_save"' not in page
        assert operator.get(f"/admin/engine/{model._meta.model_name}/add/").status_code == 403
    assert operator.get("/admin/departments/automation/lab.squares/change/").status_code == 200
    assert operator.get("/admin/departments/department/lab/change/").status_code == 200


def test_run_page__shows_state_steps_files_and_escapes(operator, line):
    run_id = submit("finance.cashflow_report", title="<script>alert(1)</script>")
    page = operator.get(f"/admin/engine/run/{run_id}/change/").content.decode()
    assert "pending" in page
    assert "read_ledger" in page
    assert "<script>alert(1)" not in page
    assert operator.get("/admin/engine/run/nonsense/change/").status_code == 404


def test_run_page__says_why_the_run_and_its_steps_are_not_further(operator, line):
    run_id = submit()
    operator.post(f"/admin/engine/run/{run_id}/act/pause")
    page = operator.get(f"/admin/engine/run/{run_id}/change/").content.decode()
    assert "Why it is not further" in page
    assert "the run is paused; resume it</span>" in page
    operator.post(f"/admin/engine/run/{run_id}/act/cancel")
    page = operator.get(f"/admin/engine/run/{run_id}/change/").content.decode()
    assert "Why it is not further" not in page


def test_run_page__offers_only_legal_acts(operator, line):
    run_id = submit()
    address = f"/admin/engine/run/{run_id}"

    def verbs():
        page = operator.get(f"{address}/change/").content.decode()
        return set(re.findall(r"/act/(\w+)", page))

    assert verbs() == {"pause", "cancel"}
    operator.post(f"{address}/act/pause")
    assert verbs() == {"resume", "cancel"}
    operator.post(f"{address}/act/cancel")
    assert verbs() == set()
    assert selectors.run(run_id=run_id).state == "cancelled"


def test_run_act__that_is_not_legal_says_so_and_changes_nothing(operator, line):
    run_id = submit()
    page = operator.post(f"/admin/engine/run/{run_id}/act/resume", follow=True).content.decode()
    assert "cannot resume" in page
    assert selectors.run(run_id=run_id).state == "pending"
    assert operator.get(f"/admin/engine/run/{run_id}/act/cancel").status_code == 405


def test_list_action__steers_the_selected_runs(operator, line):
    chosen, other = submit(), submit()
    operator.post(
        "/admin/engine/run/", {"action": "cancel_selected", "_selected_action": [str(chosen)]}
    )
    assert selectors.run(run_id=chosen).state == "cancelled"
    assert selectors.run(run_id=other).state == "pending"


def test_onlooker__sees_and_does_nothing(onlooker, line):
    run_id = submit()
    page = onlooker.get(f"/admin/engine/run/{run_id}/change/").content.decode()
    assert "/act/" not in page
    assert onlooker.post(f"/admin/engine/run/{run_id}/act/cancel").status_code == 403
    onlooker.post(
        "/admin/engine/run/", {"action": "cancel_selected", "_selected_action": [str(run_id)]}
    )
    assert selectors.run(run_id=run_id).state == "pending"


def test_dead_letter__is_requeued_from_its_page(operator, letter, line, tmp_path):
    (tmp_path / "mended").touch()
    assert (
        "Requeue" in operator.get(f"/admin/engine/deadletter/{letter.pk}/change/").content.decode()
    )
    operator.post(f"/admin/engine/deadletter/{letter.pk}/act/requeue")
    work(line)
    assert selectors.run(run_id=letter.run_id).state == "succeeded"


def test_dead_letter__is_discarded_by_list_action(operator, letter):
    operator.post(
        "/admin/engine/deadletter/",
        {"action": "discard_selected", "_selected_action": [str(letter.pk)]},
    )
    letter.refresh_from_db()
    assert (letter.state, letter.resolved_by) == ("discarded", "operator")


def test_department__is_paused_and_resumed_by_list_action(operator, line):
    for verb, paused in (("pause", True), ("resume", False)):
        operator.post(
            "/admin/departments/department/",
            {"action": f"{verb}_selected", "_selected_action": ["lab"]},
        )
        assert Lane.objects.get(slug="lab").paused is paused


def test_department_page__offers_the_one_act_that_is_legal(operator, line):
    address = "/admin/departments/department/lab/"
    for verb, other in (("pause", "resume"), ("resume", "pause")):
        page = operator.get(f"{address}change/").content.decode()
        assert f"{address}act/{verb}" in page
        assert f"{address}act/{other}" not in page
        assert operator.get(f"{address}act/{verb}").status_code == 405
        answered = operator.post(f"{address}act/{verb}")
        assert answered.headers["Location"] == f"{address}change/"
        assert Lane.objects.get(slug="lab").paused is (verb == "pause")
    assert operator.post(f"{address}act/delete").status_code == 404
    assert operator.post("/admin/departments/department/none/act/pause").status_code == 404


def test_department_page__offers_an_onlooker_nothing(onlooker):
    assert "/act/" not in onlooker.get("/admin/departments/department/lab/change/").content.decode()
    assert onlooker.post("/admin/departments/department/lab/act/pause").status_code == 403


def test_bare_address__leads_to_the_admin(operator):
    assert operator.get("/").headers["Location"] == "/admin/"


def test_wrong_address__is_a_page_that_leads_back(operator):
    answered = operator.get("/admin/nope/")
    assert answered.status_code == 404
    assert 'href="/admin/"' in answered.content.decode()


def test_dashboard__tells_the_state_of_the_business(operator, letter):
    page = operator.get("/admin/").content.decode()
    assert "Laboratory" in page
    assert "abe-alarm" in page
    assert "The folder is not mended yet." in page


def test_dashboard__without_permission_shows_no_run(client, line, django_user_model):
    client.force_login(django_user_model.objects.create_user("x", "", "pw", is_staff=True))
    page = client.get("/admin/").content.decode()
    assert "grant you a role" in page


def test_download__is_for_those_who_may_see_files(operator, line, client):
    artifacts.store(name="a.txt", content=b"hello", media_type="text/plain")
    address = f"/admin/engine/artifact/{Artifact.objects.get().pk}/download"
    response = operator.get(address)
    assert b"".join(response.streaming_content) == b"hello"
    assert response["Content-Security-Policy"].startswith("sandbox")
    operator.logout()
    assert operator.get(address).status_code == 302


def test_pages__load_nothing_from_elsewhere(operator, letter):
    for address in ("/admin/", "/admin/engine/run/", f"/admin/engine/run/{letter.run_id}/change/"):
        page = operator.get(address).content.decode()
        assert not re.findall(r"""(?:src|href)=["']https?://""", page)
