"""What no page can mean is refused, never a 500, whoever of the staff sends it."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.contrib.contenttypes.models import ContentType

from engine import runs
from engine.models import Run

APPS = {"engine", "departments", "auth"}


@pytest.fixture
def staff(operator):
    operator.raise_request_exception = False
    return operator


def pages():
    for model, page in admin.site._registry.items():
        if model._meta.app_label in APPS:
            yield f"/admin/{model._meta.app_label}/{model._meta.model_name}/", page


def test_page__refuses_a_nul_character_wherever_it_stands(staff):
    filters = ("state", "department", "status__exact", "kind__exact", "source", "outcome__exact")
    queries = [*(f"?{name}=%00" for name in filters), "?%00=1", "?q=a&q=%00"]
    tails = ("%00/change/", "a%00/history/", "%00/delete/")
    for address, _page in pages():
        for rest in (*queries, *tails):
            assert staff.get(address + rest).status_code == 400, address + rest


def test_page__refuses_a_selection_of_what_is_no_row(staff):
    for address, page in pages():
        is_text = page.model._meta.pk.get_internal_type() == "CharField"
        for word in ["\x00", *([] if is_text else ["abc", "1x", "--"])]:
            for action in {*(page.actions or ()), "delete_selected"}:
                sent = {"action": action, "_selected_action": ["1", word]}
                assert staff.post(address, sent).status_code == 400, (address, sent)


def test_search__of_the_menu_has_no_page_that_is_none(staff):
    assert staff.get("/admin/search/?s=run&extended=1").status_code == 200
    for page in ("zz", "0", "2", "99999999999999999999"):
        answered = staff.get(f"/admin/search/?s=run&extended=1&page={page}")
        assert answered.status_code == 404, page


def test_shortcut__to_any_row_leads_nowhere(staff):
    run_id = runs.submit(automation="lab.squares", input={}, trigger="api").run_id
    told, kind = set(), ContentType.objects.get_for_model(Run).pk
    for name in (f"{kind}/{run_id}", f"{kind}/abc", "x/y", "4/1"):
        answered = staff.get(f"/admin/r/{name}/")
        assert answered.status_code == 404, name
        told.add(answered.content)
    assert len(told) == 1
