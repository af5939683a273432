from datetime import UTC, datetime

import pytest
from django.contrib.auth.models import User

from departments import schedules
from departments.models import Schedule
from engine.access import grants

LIST = "/admin/departments/schedule/"
ADD = f"{LIST}add/"


def form(**values):
    return {
        "name": "nightly",
        "automation": "lab.squares",
        "cron": "30 2 * * *",
        "time_zone": "Europe/Berlin",
        "catch_up": "latest",
        "catch_up_limit": "100",
        "input": '{"count": 4}',
        "enabled": "on",
    } | values


@pytest.fixture
def nightly(line):
    return schedules.create(
        name="nightly", automation="lab.squares", cron="30 2 * * *", actor="ann", input={"count": 1}
    )


def page(schedule) -> str:
    return f"{LIST}{schedule.pk}/change/"


def test_add__makes_a_schedule_that_fires_ahead(operator):
    answered = operator.post(ADD, form())
    assert answered.status_code == 302, answered.context["errors"]
    made = Schedule.objects.get()
    assert (made.input, made.time_zone, made.enabled) == ({"count": 4}, "Europe/Berlin", True)
    assert made.next_fire_at > datetime.now(UTC)
    shown = operator.get(page(made)).content.decode()
    assert shown.count("02:30 <small>CE") == 5
    assert "count" in shown
    assert '<select name="automation"' not in shown


def test_add__disabled_has_no_next_fire_time(operator):
    data = form()
    del data["enabled"]
    operator.post(ADD, data)
    assert Schedule.objects.get().next_fire_at is None


@pytest.mark.parametrize(
    ("values", "field", "word"),
    [
        ({"cron": "61 * * * *"}, "cron", "minute"),
        ({"cron": "@daily"}, "cron", "five fields"),
        ({"time_zone": "Mars/Olympus"}, "time_zone", "Mars"),
        ({"input": '{"count": "many"}'}, "input", "count"),
        ({"input": '{"colour": 1}'}, "input", "colour"),
        ({"input": "[1]"}, "input", "object"),
        ({"input": "{"}, "input", "valid JSON"),
        ({"input": '{"count": NaN}'}, "input", ""),
        ({"input": '{"count": ' + "9" * 5000 + "}"}, "input", "valid JSON"),
        ({"input": "[" * 100_000}, "input", "valid JSON"),
        ({"input": '{"count": "\\ud800"}'}, "input", "valid JSON"),
        ({"name": "no spaces"}, "name", ""),
        ({"catch_up_limit": "0"}, "catch_up_limit", "between"),
        ({"automation": "no.such"}, "automation", ""),
    ],
)
def test_add__shows_refusals_at_their_fields(operator, values, field, word):
    answered = operator.post(ADD, form(**values))
    assert answered.status_code == 200
    errors = answered.context["adminform"].form.errors
    assert list(errors) == [field], errors
    assert word in str(errors[field])
    assert not Schedule.objects.exists()


def test_add__refuses_a_name_that_is_taken(operator, nightly):
    answered = operator.post(ADD, form())
    assert list(answered.context["adminform"].form.errors) == ["name"]


def test_change__goes_through_the_door(operator, nightly):
    answered = operator.post(
        page(nightly), form(name="daily", cron="0 5 * * *", automation="lab.large")
    )
    assert answered.status_code == 302, answered.context["errors"]
    nightly.refresh_from_db()
    assert (nightly.name, nightly.cron, nightly.input) == ("daily", "0 5 * * *", {"count": 4})
    assert nightly.automation_id == "lab.squares", "fixed: its runs' keys are unique in it"
    assert nightly.next_fire_at.astimezone(UTC).hour in {3, 4}


def test_change__disables_and_enables(operator, nightly):
    data = form(name="nightly")
    del data["enabled"]
    operator.post(page(nightly), data)
    nightly.refresh_from_db()
    assert (nightly.enabled, nightly.next_fire_at) == (False, None)
    operator.post(page(nightly), form())
    nightly.refresh_from_db()
    assert nightly.enabled
    assert nightly.next_fire_at > datetime.now(UTC)


def test_change__of_an_empty_input_means_none_is_given(operator, nightly):
    answered = operator.post(page(nightly), form(input=""))
    assert answered.status_code == 302
    nightly.refresh_from_db()
    assert nightly.input == {}


def test_list__shows_what_fails_and_its_actions_steer(operator, nightly):
    Schedule.objects.update(error="count: <too> small")
    shown = operator.get(LIST).content.decode()
    assert "count: &lt;too&gt; small" in shown
    assert LIST in operator.get("/admin/").content.decode(), "in the navigation"
    for verb, enabled in (("disable", False), ("enable", True)):
        data = {"action": f"{verb}_selected", "_selected_action": [str(nightly.pk)]}
        operator.post(LIST, data)
        nightly.refresh_from_db()
        assert nightly.enabled is enabled


def test_delete__removes_it(operator, nightly):
    operator.post(f"{LIST}{nightly.pk}/delete/", {"post": "yes"})
    assert not Schedule.objects.exists()


def test_onlooker__sees_and_does_nothing(onlooker, nightly):
    assert 'name="_save"' not in onlooker.get(page(nightly)).content.decode()
    assert onlooker.get(ADD).status_code == 403
    assert onlooker.post(page(nightly), form(name="other")).status_code == 403
    data = {"action": "disable_selected", "_selected_action": [str(nightly.pk)]}
    onlooker.post(LIST, data)
    nightly.refresh_from_db()
    assert (nightly.name, nightly.enabled) == ("nightly", True)


def test_page__is_closed_to_whoever_may_not_see_schedules(client, nightly):
    user = User.objects.create_user("clerk", "", "pw", is_staff=True)
    grants.grant(user=user, role="viewer", department="courier", by="root")
    client.force_login(user)
    assert client.get(page(nightly)).headers["Location"] == "/admin/", "it is not there"
    assert "nightly" not in client.get(LIST).content.decode()
    client.force_login(User.objects.create_user("nobody", "", "pw", is_staff=True))
    assert client.get(LIST).status_code == 403
