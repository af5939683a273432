"""Role × page × department, written out: who gets where in the admin.

Every page of the admin must have a row here, or stand among those open to whoever signs in. Cells:
`y` let through, `n` refused (403), `.` not there (404, or back to the start; of a list: its row).
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client
from django.urls import URLResolver, get_resolver, reverse
from django.utils import timezone

from engine.access import grants
from engine.models import AuditRecord, Lockout, MachineToken, WorkerPresence

#: Columns: viewer, operator, approver, admin; held everywhere, then in `lab` only for what is of
#: `lab`, then in `lab` only for what is of `courier`. Workers, lockouts, people, tokens and the
#: audit trail are of no department.
TABLE = """
GET  engine_run_changelist              yyyy yyyy ....
GET  engine_run_change                  yyyy yyyy ....
GET  engine_run_history                 yyyy yyyy ....
GET  engine_run_add                     nnnn nnnn nnnn
GET  engine_run_delete                  nnnn nnnn nnnn
POST engine_run_act                     nyny nyny n.n.
GET  engine_deadletter_changelist       yyyy yyyy ....
GET  engine_deadletter_change           yyyy yyyy ....
GET  engine_deadletter_history          yyyy yyyy ....
GET  engine_deadletter_add              nnnn nnnn nnnn
GET  engine_deadletter_delete           nnnn nnnn nnnn
POST engine_deadletter_act              nyny nyny n.n.
GET  engine_effect_changelist           yyyy yyyy ....
GET  engine_effect_change               yyyy yyyy ....
GET  engine_effect_history              yyyy yyyy ....
GET  engine_effect_add                  nnnn nnnn nnnn
GET  engine_effect_delete               nnnn nnnn nnnn
POST engine_effect_act                  nyny nyny n.n.
GET  engine_artifact_changelist         nyyy nyyy n...
GET  engine_artifact_change             nyyy nyyy n...
GET  engine_artifact_history            .yyy .yyy ....
GET  engine_artifact_add                nnnn nnnn nnnn
GET  engine_artifact_delete             nnnn nnnn nnnn
GET  engine_artifact_download           nyyy nyyy n...
GET  engine_webhookendpoint_changelist  nyny nyny n.n.
GET  engine_webhookendpoint_change      nyny nyny n.n.
GET  engine_webhookendpoint_history     .y.y .y.y ....
GET  engine_webhookendpoint_add         nnnn nnnn nnnn
GET  engine_webhookendpoint_delete      nnnn nnnn nnnn
POST engine_webhookendpoint_act         nnny nnny nnn.
GET  engine_webhookdelivery_changelist  nyny nyny n.n.
GET  engine_webhookdelivery_change      nyny nyny n.n.
GET  engine_webhookdelivery_history     .y.y .y.y ....
GET  engine_webhookdelivery_add         nnnn nnnn nnnn
GET  engine_webhookdelivery_delete      nnnn nnnn nnnn
GET  engine_incominghook_changelist     nyny nyny n.n.
GET  engine_incominghook_change         nyny nyny n.n.
GET  engine_incominghook_history        .y.y .y.y ....
GET  engine_incominghook_add            nnnn nnnn nnnn
GET  engine_incominghook_delete         nnnn nnnn nnnn
POST engine_incominghook_act            nnny nnny nnn.
POST engine_webhookdelivery_act         nnny nnny nnn.
GET  engine_workerpresence_changelist   yyyy nnnn nnnn
GET  engine_workerpresence_change       yyyy nnnn nnnn
GET  engine_workerpresence_history      yyyy .... ....
GET  engine_workerpresence_add          nnnn nnnn nnnn
GET  engine_workerpresence_delete       nnnn nnnn nnnn
GET  departments_department_changelist  yyyy yyyy ....
GET  departments_department_change      yyyy yyyy ....
GET  departments_department_history     yyyy yyyy ....
GET  departments_department_add         nnnn nnnn nnnn
GET  departments_department_delete      nnnn nnnn nnnn
POST departments_department_act         nyny nyny n.n.
GET  departments_automation_changelist  yyyy yyyy ....
GET  departments_automation_change      yyyy yyyy ....
GET  departments_automation_history     yyyy yyyy ....
GET  departments_automation_add         nnnn nnnn nnnn
GET  departments_automation_delete      nnnn nnnn nnnn
GET  departments_schedule_changelist    yyyy yyyy ....
GET  departments_schedule_change        yyyy yyyy ....
GET  departments_schedule_history       yyyy yyyy ....
GET  departments_schedule_add           nyny nyny nyny
GET  departments_schedule_delete        nyny nyny n.n.
GET  engine_lockout_changelist          nnny nnnn nnnn
GET  engine_lockout_change              nnny nnnn nnnn
GET  engine_lockout_history             nnny nnnn nnnn
GET  engine_lockout_add                 nnnn nnnn nnnn
GET  engine_lockout_delete              nnnn nnnn nnnn
GET  engine_auditrecord_changelist      nnny nnnn nnnn
GET  engine_auditrecord_change          nnny nnnn nnnn
GET  engine_auditrecord_history         ...y .... ....
GET  engine_auditrecord_add             nnnn nnnn nnnn
GET  engine_auditrecord_delete          nnnn nnnn nnnn
GET  engine_machinetoken_changelist     nnny nnnn nnnn
GET  engine_machinetoken_change         nnny nnnn nnnn
GET  engine_machinetoken_history        ...y .... ....
GET  engine_machinetoken_add            nnnn nnnn nnnn
GET  engine_machinetoken_delete         nnnn nnnn nnnn
GET  auth_user_changelist               nnny nnnn nnnn
GET  auth_user_change                   nnny nnnn nnnn
GET  auth_user_history                  ...y .... ....
GET  auth_user_add                      nnny nnnn nnnn
GET  auth_user_delete                   nnny nnnn nnnn
GET  auth_user_password_change          nnny nnnn nnnn
"""
ROLES = ["viewer", "operator", "approver", "admin"]
#: Pages of the frame, which show what the other pages show, or only what is one's own.
FRAME = {
    "index",
    "login",
    "logout",
    "password_change",
    "password_change_done",
    "autocomplete",
    "jsi18n",
    "view_on_site",
    "search",
    "app_list",
}
VERBS = {
    "engine_run_act": "pause",
    "engine_deadletter_act": "discard",
    "engine_effect_act": "confirm",
    "engine_webhookendpoint_act": "disable",
    "engine_webhookdelivery_act": "resend",
    "engine_incominghook_act": "disable",
    "departments_department_act": "pause",
}
MATRIX = {row.split()[1]: row.split() for row in TABLE.strip().splitlines()}


def pages(resolver, inside=""):
    """Return the name of every page of the admin."""
    for entry in resolver.url_patterns:
        path = inside + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from pages(entry, path)
        elif path.startswith("admin/") and entry.name:
            yield entry.name


def test_matrix__has_a_row_for_every_page():
    assert set(pages(get_resolver())) - FRAME == MATRIX.keys()


@pytest.fixture
def others(things):
    """What is of no department."""
    now = timezone.now()
    WorkerPresence.objects.create(
        hostname="w1", pid=1, concurrency=1, started_at=now, seen_at=now, queues=["lab"]
    )
    return {
        "engine_workerpresence": "w1",
        "auth_user": User.objects.create_user("ann", "", "pw").pk,
        "engine_lockout": Lockout.objects.create(
            kind="address",
            address="192.0.2.1",
            failures=3,
            last_failed_at=now,
            kept_until=now + timedelta(days=1),
        ).pk,
        # What was made above has been recorded.
        "engine_machinetoken": MachineToken.objects.create(
            jti="j",
            subject="s",
            scopes=[],
            kid="k",
            created_at=now,
            created_by="ann",
            expires_at=now,
        ).pk,
        "engine_auditrecord": AuditRecord.objects.earliest("id").pk,
    }


def address(name, of, others):
    model = name.rpartition("_")[0] if name != "auth_user_password_change" else "auth_user"
    key = (
        others.get(model)
        or {
            "engine_run": of.run,
            "engine_deadletter": of.letter,
            "engine_effect": of.effect,
            "engine_artifact": of.artifact,
            "engine_webhookendpoint": of.webhook,
            "engine_webhookdelivery": of.delivery,
            "engine_incominghook": of.hook,
            "departments_department": of.department,
            "departments_automation": of.automation,
            "departments_schedule": of.schedule,
        }[model]
    )
    if name.endswith(("_changelist", "_add")):
        return reverse(f"admin:{name}"), key
    words = [key, VERBS[name]] if name in VERBS else [key]
    return reverse(f"admin:{name}", args=words), key


def outcome(client, name, of, others):
    """Return the cell that an answer stands for; what it did is undone."""
    method = MATRIX[name][0].lower()
    place, key = address(name, of, others)
    with transaction.atomic():
        answered = getattr(client, method)(place)
        transaction.set_rollback(True)
    if answered.streaming:
        b"".join(answered.streaming_content)
    if answered.status_code == 403:
        return "n"
    if answered.status_code == 404 or answered.headers.get("Location") == "/admin/":
        return "."
    assert answered.status_code in {200, 302}, (name, answered.status_code)
    if name.endswith("_changelist"):
        return "y" if f"{key}" in rows(answered) else "."
    return "y"


def rows(answered):
    """Return the keys of the rows that a list shows."""
    return {str(row.pk) for row in answered.context["cl"].result_list}


def holder(role, department=""):
    user = User.objects.create_user(f"{role}-{department}", "", "pw", is_staff=True)
    grants.grant(user=user, role=role, department=department, by="root")
    client = Client()
    client.force_login(user)
    return client


def test_roles__get_where_the_table_says(things, others):
    found = {}
    clients = {role: (holder(role), holder(role, "lab")) for role in ROLES}
    for name, (_method, _name, *cells) in MATRIX.items():
        asked = [["", "", ""], ["", "", ""]]
        for role in ROLES:
            whole, limited = clients[role]
            for number, of in enumerate(things.values()):
                asked[number][0] += outcome(whole, name, of, others)
            asked[0][1] += outcome(limited, name, things["lab"], others)
            asked[0][2] += outcome(limited, name, things["courier"], others)
        if asked[0] != cells or asked[1][0] != cells[0]:
            found[name] = f"{name}: {asked[0]}, {asked[1][0]} of the other; expected {cells}"
    assert not found, "\n".join(found.values())


def test_frame__lets_in_only_those_who_may_enter_the_admin(things, others):
    outsider = User.objects.create_user("outsider", "", "pw")
    grants.grant(user=outsider, role="admin", by="root")
    client = Client()
    client.force_login(outsider)
    for name in MATRIX:
        place, _key = address(name, things["lab"], others)
        assert client.get(place).headers["Location"].startswith("/admin/login/"), name
