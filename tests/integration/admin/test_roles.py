"""Pages, rows, acts and payload of the admin by role and department."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from django.test import Client

from departments import schedules
from departments.models import Schedule
from engine import artifacts, runs, selectors
from engine.access import grants
from engine.models import Artifact, DeadLetter, Lane, RoleGrant
from tests.integration.faces import work

RUNS = "/admin/engine/run/"
LETTERS = "/admin/engine/deadletter/"
PEOPLE = "/admin/auth/user/"


def somebody(*held, name="bob"):
    """Return the browser of a person who holds these roles, `operator` or `operator@lab`."""
    user = User.objects.create_user(name, "", "pw", is_staff=True)
    for one in held:
        role, _, department = one.partition("@")
        grants.grant(user=user, role=role, department=department, by="root")
    client = Client()
    client.force_login(user)
    return client


def shown(client, address):
    answered = client.get(address)
    assert answered.status_code == 200, (address, answered.status_code)
    return answered.content.decode()


@pytest.fixture
def started(line):
    """One run of each of two departments, by department."""
    names = {"courier": "courier.letter", "lab": "lab.squares"}
    given = {"courier": {"address": "Secret Street"}, "lab": {}}
    return {
        slug: runs.submit(automation=name, input=given[slug], trigger="api").run_id
        for slug, name in names.items()
    }


@pytest.fixture
def letter(line, tmp_path):
    runs.submit(automation="lab.fragile", input={"folder": str(tmp_path)}, trigger="api")
    work(line)
    return DeadLetter.objects.get()


def test_rows__are_those_of_the_departments_that_are_reached(started):
    client = somebody("operator@lab")
    page = shown(client, RUNS)
    assert str(started["lab"])[-12:] in page
    assert str(started["courier"])[-12:] not in page
    assert "courier" not in page, "nor offered by a filter"
    assert client.get(f"{RUNS}{started['lab']}/change/").status_code == 200
    assert client.get(f"{RUNS}{started['courier']}/change/").status_code == 404
    assert "courier" not in shown(client, f"{RUNS}?department=courier").partition("<main")[2]


def test_acts__reach_the_departments_in_which_they_are_allowed(started):
    client = somebody("viewer", "operator@lab")
    for slug, status in (("courier", 403), ("lab", 302)):
        assert client.post(f"{RUNS}{started[slug]}/act/pause").status_code == status
    page = client.post(
        RUNS,
        {"action": "cancel_selected", "_selected_action": [str(one) for one in started.values()]},
        follow=True,
    ).content.decode()
    assert "Left out: 1." in page
    states = {slug: selectors.run(run_id=run_id).state for slug, run_id in started.items()}
    assert states == {"courier": "pending", "lab": "cancelled"}


def test_acts__of_rows_that_are_not_there_are_404(started):
    client = somebody("operator@lab")
    assert client.post(f"{RUNS}{started['courier']}/act/pause").status_code == 404
    assert client.post("/admin/departments/department/courier/act/pause").status_code == 404
    assert not Lane.objects.filter(paused=True).exists()


def test_departments__are_paused_where_that_is_allowed(line):
    client = somebody("viewer", "operator@lab")
    assert client.post("/admin/departments/department/courier/act/pause").status_code == 403
    assert client.post("/admin/departments/department/lab/act/pause").status_code == 302
    assert [lane.slug for lane in Lane.objects.filter(paused=True)] == ["lab"]
    assert "/act/" not in shown(client, "/admin/departments/department/courier/change/")
    chosen = {"action": "pause_selected", "_selected_action": ["courier", "freight"]}
    client.post("/admin/departments/department/", chosen)
    assert [lane.slug for lane in Lane.objects.filter(paused=True)] == ["lab"]


@pytest.mark.parametrize(("role", "sees"), [("viewer", False), ("approver", True)])
def test_run_page__shows_payload_to_roles_that_see_it(started, line, role, sees):
    work(line)
    artifacts.store(name="secret.txt", content=b"hello", media_type="text/plain")
    Artifact.objects.update(run_id=started["courier"])
    client = somebody(role)
    page = shown(client, f"{RUNS}{started['courier']}/change/")
    assert ("Secret Street" in page) is sees
    assert ("shown to your roles" in page) is not sees
    assert "secret.txt" in page
    assert ("/download" in page) is sees
    assert client.get("/admin/engine/artifact/").status_code == (200 if sees else 403)


@pytest.mark.parametrize(("role", "sees"), [("viewer", False), ("approver", True)])
def test_messages__of_errors_are_payload(letter, role, sees):
    client = somebody(f"{role}@lab")
    places = [f"{LETTERS}{letter.pk}/change/", f"{RUNS}{letter.run_id}/change/", "/admin/", LETTERS]
    pages = [shown(client, place) for place in places]
    assert ["not mended yet" in page for page in pages] == [sees, sees, sees, False]
    assert all("broken" in page for page in pages)


def test_schedule__shows_its_input_to_roles_that_see_payload(line):
    given = {"name": "nightly", "automation": "courier.letter", "cron": "0 2 * * *"}
    row = schedules.create(**given, input={"address": "Secret Street"}, actor="ann")
    Schedule.objects.update(error="Secret Street is no address")
    address = f"/admin/departments/schedule/{row.pk}/change/"
    for role, sees in (("viewer", False), ("approver", True), ("operator", True)):
        client = somebody(role, name=role)
        assert ("Secret Street" in shown(client, address)) is sees
        assert ("Secret Street" in shown(client, "/admin/departments/schedule/")) is sees
        assert ('name="_save"' in shown(client, address)) is (role == "operator")
    other = somebody("operator@lab", name="other")
    assert other.get(address).headers["Location"] == "/admin/"
    offered = shown(other, "/admin/departments/schedule/add/")
    assert "lab.squares" in offered
    assert "courier.letter" not in offered


@pytest.mark.parametrize(
    "question",
    ["error_message__startswith=T", "input__address__startswith=S", "run__input__contains=S"],
)
def test_lists__answer_no_question_about_other_columns(letter, question):
    client = somebody("viewer")
    for page in (RUNS, LETTERS, "/admin/engine/effect/", "/admin/departments/schedule/"):
        assert client.get(f"{page}?{question}").status_code == 400


def test_lists__still_filter(letter, started):
    client = somebody("viewer")
    assert str(letter.run_id) in shown(client, f"{LETTERS}?state__exact=open&department=lab")
    assert str(letter.run_id) not in shown(client, f"{LETTERS}?department=courier")


def test_menu__leads_where_its_user_may_go(line):
    def entries(client):
        return set(re.findall(r'href="/admin/(\w+/\w+)/', shown(client, "/admin/")))

    limited = entries(somebody("viewer@lab"))
    assert limited >= {"engine/run", "engine/deadletter", "departments/schedule"}
    assert not limited & {"engine/artifact", "engine/workerpresence", "auth/user"}
    assert entries(somebody("admin", name="head")) >= limited | {"engine/artifact", "auth/user"}
    assert entries(somebody(name="nobody")) == set()


def test_dashboard__counts_what_its_user_reaches(letter, started):
    mine, all_of_it = (
        somebody("viewer@courier").get("/admin/").context,
        somebody("viewer", name="v").get("/admin/").context,
    )
    assert (mine["open_runs"], mine["dead_letters"], mine["hours_total"]) == (1, 0, 1)
    assert [run.department for run, *_ in mine["recent"]] == ["courier"]
    assert mine["workers"] is None
    assert (all_of_it["open_runs"], all_of_it["dead_letters"], all_of_it["hours_total"]) == (
        3,
        1,
        3,
    )


def test_role__that_was_taken_away_is_gone_with_the_next_page(started):
    client = somebody("operator")
    assert client.get(RUNS).status_code == 200
    grants.revoke(user=User.objects.get(), role="operator", by="root")
    assert client.get(RUNS).status_code == 403
    assert client.post(f"{RUNS}{started['lab']}/act/pause").status_code == 403


# --- people ------------------------------------------------------------------------------------


def form(user, *roles, **values):
    """Return the person's form as it is sent with these roles added."""
    data = {
        "username": user.username,
        "date_joined_0": "2026-11-30",
        "date_joined_1": "10:00:00",
        "is_active": "on",
        "role_grants-TOTAL_FORMS": str(len(roles)),
        "role_grants-INITIAL_FORMS": "0",
    }
    for number, one in enumerate(roles):
        role, _, department = one.partition("@")
        data |= {
            f"role_grants-{number}-role": role,
            f"role_grants-{number}-department": department,
            f"role_grants-{number}-user": str(user.pk),
        }
    return data | values


def held():
    return [(grant.role, grant.department) for grant in RoleGrant.objects.order_by("id")]


def test_people__are_granted_roles_and_lose_them(operator):
    ann = User.objects.create_user("ann", "", "pw")
    address = f"{PEOPLE}{ann.pk}/change/"
    assert "every department" in shown(operator, address)
    answered = operator.post(address, form(ann, "viewer", "operator@lab"))
    assert answered.status_code == 302, answered.context["errors"]
    assert held() == [("viewer", ""), ("operator", "lab")]
    assert "operator (lab)" in shown(operator, PEOPLE)
    first = RoleGrant.objects.get(role="viewer")
    gone = {
        "role_grants-INITIAL_FORMS": "1",
        "role_grants-TOTAL_FORMS": "1",
        "role_grants-0-id": str(first.pk),
        "role_grants-0-user": str(ann.pk),
        "role_grants-0-DELETE": "on",
    }
    answered = operator.post(address, form(ann, **gone))
    assert answered.status_code == 302, answered.context["errors"]
    assert held() == [("operator", "lab")]


def test_people__are_for_admins_of_everything_only(line):
    ann = User.objects.create_user("ann", "", "pw")
    for name, role in (("a", "operator"), ("b", "admin@lab"), ("c", "approver")):
        client = somebody(role, name=name)
        assert client.get(PEOPLE).status_code == 403
        address = f"{PEOPLE}{ann.pk}/change/"
        assert client.post(address, form(ann, "admin")).status_code == 403
    assert ("admin", "") not in held()


def test_admin__by_role_makes_no_superuser_and_changes_none(line):
    root = User.objects.create_superuser("root", "", "pw")
    ann = User.objects.create_user("ann", "", "pw")
    head = somebody("admin", name="head")
    answered = head.post(f"{PEOPLE}{ann.pk}/change/", form(ann, "viewer", is_superuser="on"))
    assert answered.status_code == 302, answered.context["errors"]
    ann.refresh_from_db()
    assert not ann.is_superuser
    assert ("viewer", "") in held()
    for tail in ("change/", "password/", "delete/"):
        assert head.post(f"{PEOPLE}{root.pk}/{tail}", form(root)).status_code == 403, tail
    chosen = {"action": "delete_selected", "_selected_action": [str(root.pk)], "post": "yes"}
    head.post(PEOPLE, chosen)
    assert User.objects.filter(pk=root.pk, is_active=True).exists()
