"""The operators' page of effects: what it shows and lets them answer."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from django.test import Client

from engine import runs
from engine.access import grants
from engine.models import Effect
from tests.integration.faces import work


def ask(line, outside, tmp_path):
    (tmp_path / "break_after_call").touch()
    values = {"url": outside.url, "folder": str(tmp_path)}
    runs.submit(automation="lab.outside", input=values, trigger="api")
    line.deliver()
    return Effect.objects.get()


@pytest.fixture
def asking(operator, line, outside, tmp_path):
    return ask(line, outside, tmp_path)


@pytest.fixture
def onlooker_of():
    def signed_in(department):
        user = User.objects.create_user(f"onlooker of {department}", "", "pw", is_staff=True)
        grants.grant(user=user, role="viewer", department=department, by="root")
        client = Client()
        client.force_login(user)
        return client

    return signed_in


def address(effect, rest="change/"):
    return f"/admin/engine/effect/{effect.pk}/{rest}"


def verbs(client, effect):
    return set(re.findall(r"/act/(\w+)", client.get(address(effect)).content.decode()))


def test_navigation__leads_to_the_open_questions_and_the_list_shows_them(operator, asking):
    page = operator.get("/admin/").content.decode()
    assert "/admin/engine/effect/?state__exact=unknown" in page
    shown = operator.get("/admin/engine/effect/?state__exact=unknown").content.decode()
    assert "call_outside" in shown
    assert "TimeoutError" in shown
    others = operator.get("/admin/engine/effect/?state__exact=confirmed").content.decode()
    assert "TimeoutError" not in others


def test_overview__asks_whoever_sees_the_department(operator, onlooker_of, asking):
    for client, sees in (
        (operator, True),
        (onlooker_of("lab"), True),
        (onlooker_of("courier"), False),
    ):
        page = client.get("/admin/").content.decode()
        assert (f'href="{address(asking)}"' in page) is sees
        assert ("Did it happen?" in page) is sees
        assert ("All quiet" in page) is not sees


def test_run_page__points_to_the_question(operator, asking):
    page = operator.get(f"/admin/engine/run/{asking.run_id}/change/").content.decode()
    assert f'href="{address(asking)}"' in page
    assert asking.key in page


def test_page__offers_answers_while_there_is_a_question(operator, line, asking, outside):
    assert verbs(operator, asking) == {"confirm", "retry"}
    assert operator.get(address(asking, "act/confirm")).status_code == 405
    assert operator.post(address(asking, "act/delete")).status_code == 404
    page = operator.post(address(asking, "act/confirm"), {"receipt": "{"}, follow=True)
    assert "must be JSON" in page.content.decode()
    assert verbs(operator, asking) == {"confirm", "retry"}
    operator.post(address(asking, "act/confirm"), {"receipt": '{"id": 7}'})
    asking.refresh_from_db()
    assert (asking.state, asking.receipt, asking.resolved_by) == (
        "confirmed",
        {"id": 7},
        "operator",
    )
    assert verbs(operator, asking) == set()
    work(line)
    assert list(outside.calls.values()) == [1]


def test_page__of_an_ended_run_offers_the_truth_only(operator, asking):
    runs.cancel(run_id=asking.run_id, actor="ann")
    assert verbs(operator, asking) == {"confirm"}
    page = operator.post(address(asking, "act/retry"), follow=True).content.decode()
    assert "The run is cancelled" in page
    asking.refresh_from_db()
    assert asking.state == "unknown"


@pytest.mark.parametrize("verb", ["confirm", "retry"])
def test_list_action__answers_for_the_selected(operator, line, asking, outside, verb):
    operator.post(
        "/admin/engine/effect/",
        {"action": f"{verb}_selected", "_selected_action": [str(asking.pk)]},
    )
    work(line)
    assert list(outside.calls.values()) == [1 if verb == "confirm" else 2]


def test_onlooker__sees_and_answers_nothing(onlooker, line, outside, tmp_path):
    effect = ask(line, outside, tmp_path)
    assert verbs(onlooker, effect) == set()
    assert onlooker.post(address(effect, "act/confirm")).status_code == 403
    onlooker.post(
        "/admin/engine/effect/",
        {"action": "confirm_selected", "_selected_action": [str(effect.pk)]},
    )
    effect.refresh_from_db()
    assert effect.state == "unknown"
