"""`manage.py roles`, and the translation of permissions granted before there were roles."""

from __future__ import annotations

from importlib import import_module

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission, User
from django.db.migrations.loader import MigrationLoader

from engine.models import RoleGrant
from tests.integration.commands.test_commands import command, document, refused

pytestmark = pytest.mark.django_db


@pytest.fixture
def ann(line):
    return User.objects.create_user("ann", "", "pw")


def held():
    return [(grant.role, grant.department) for grant in RoleGrant.objects.order_by("id")]


def test_grant__gives_a_role_at_once(ann):
    (given,) = document("roles", "grant", "ann", "viewer")
    assert given["roles"] == [{"role": "viewer", "department": None}]
    command("roles", "grant", "ann", "operator", "--department", "lab")
    command("roles", "grant", "ann", "operator", "--department", "lab")
    assert held() == [("viewer", ""), ("operator", "lab")]
    assert "viewer, operator in lab" in command("roles", "list")


def test_revoke__shows_what_it_would_do_until_it_is_told_to(ann):
    command("roles", "grant", "ann", "viewer")
    assert "Would revoke viewer. Add --apply" in command("roles", "revoke", "ann", "viewer")
    assert held() == [("viewer", "")]
    command("roles", "revoke", "ann", "viewer", "--apply")
    assert held() == []
    assert "does not hold this: viewer" in refused("roles", "revoke", "ann", "viewer", "--apply")


def test_grant__says_what_is_known(ann):
    assert "no user 'bob'" in refused("roles", "grant", "bob", "viewer")
    text = refused("roles", "grant", "ann", "viewer", "--department", "nowhere")
    assert "lab" in text
    assert held() == []


def test_list__shows_superusers_as_admins(ann):
    User.objects.create_superuser("root", "", "pw")
    found = {one["user"]: one for one in document("roles", "list")}
    assert found["root"]["roles"] == [{"role": "admin", "department": None}]
    assert found["ann"]["roles"] == []


SEEING = ["view_run", "view_department"]
(NAME,) = (
    name
    for app, name in MigrationLoader(None).disk_migrations
    if app == "engine" and name.endswith("_roles_of_permissions")
)
CHANGING = ["change_run", "change_deadletter", "change_department", "change_schedule"]


@pytest.mark.parametrize(
    ("alone", "in_group", "role"),
    [
        (SEEING, [], "viewer"),
        ([], SEEING, "viewer"),
        (CHANGING[:2], CHANGING[2:], "operator"),
        (CHANGING[:3], [], "viewer"),
        (["view_user"], [], None),
        ([], [], None),
    ],
)
def test_permissions__become_a_role_that_writes_no_more_than_they_did(ann, alone, in_group, role):
    group = Group.objects.create(name="g")
    group.permissions.set(Permission.objects.filter(codename__in=in_group))
    ann.groups.add(group)
    ann.user_permissions.set(Permission.objects.filter(codename__in=alone))
    User.objects.create_superuser("root", "", "pw")
    migration = import_module(f"engine.migrations.{NAME}")
    for _ in range(2):
        migration.translate(apps, None)
    assert held() == ([(role, "")] if role else [])
