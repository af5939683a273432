"""Scopes, roles and the policy made of them."""

from __future__ import annotations

import pytest

from engine.access import policy, roles, scopes
from engine.access.roles import Grant
from engine.access.scopes import UnknownScopeError


@pytest.mark.parametrize(
    ("held", "scope", "department", "expected"),
    [
        ("runs.read", "runs.read", None, True),
        ("runs.read", "runs.read", "finance", True),
        ("runs.read", "runs.write", "finance", False),
        ("runs.*", "runs.payloads", "finance", True),
        ("finance:runs.read", "runs.read", "finance", True),
        ("finance:runs.read", "runs.read", None, False),
        ("finance:runs.read", "runs.read", "lab", False),
        ("finance:runs.read", "runs.write", "finance", False),
        ("finance:runs.*", "runs.write", "finance", True),
        ("finance:runs.*", "departments.read", "finance", False),
        (":runs.read", "runs.read", "finance", True),
        ("finance:", "runs.read", "finance", False),
        ("urn:finance:runs.read", "runs.read", "finance", False),
        ("", "runs.read", None, False),
        ("admin.*", "runs.read", None, False),
    ],
)
def test_policy__allows(held, scope, department, expected):
    assert policy.of_scopes((held,)).allows(scope, department) is expected


def test_policy__knows_where_a_scope_is_held():
    found = policy.of_scopes(("departments.read", "lab:runs.read", "finance:runs.*"))
    assert found.departments("departments.read").everywhere
    assert found.departments("departments.read").only is None
    assert found.departments("runs.read").only == ["finance", "lab"]
    assert found.departments("runs.write").only == ["finance"]
    assert found.departments("artifacts.read").only == []
    assert not found.departments("artifacts.read")
    assert "finance" in found.departments("runs.write")
    assert "lab" not in found.departments("runs.write")
    assert None not in found.departments("runs.write")
    assert None in found.departments("departments.read")


def test_policy__shows_payloads_to_those_who_hold_their_scope():
    found = policy.of_scopes(("runs.read", "finance:runs.payloads"))
    assert found.sees_payloads("finance")
    assert not found.sees_payloads("lab")
    assert not found.sees_payloads(None)


#: What is held by whom, written out: the table of `roles` must not change by accident.
HELD = {
    "runs.read": "viewer operator approver admin",
    "runs.payloads": "operator approver admin",
    "runs.write": "operator admin",
    "departments.read": "viewer operator approver admin",
    "departments.write": "operator admin",
    "artifacts.read": "operator approver admin",
    "dead_letters.read": "viewer operator approver admin",
    "dead_letters.write": "operator admin",
    "approvals.decide": "approver admin",
    "schedules.read": "viewer operator approver admin",
    "schedules.write": "operator admin",
    "connections.read": "operator admin",
    "connections.write": "admin",
    "webhooks.read": "operator admin",
    "webhooks.write": "admin",
    "admin.people": "admin",
    "admin.*": "admin",
}


def test_roles__hold_what_they_hold():
    for role in roles.ROLES:
        held = {scope for scope, holders in HELD.items() if role in holders.split()}
        assert set(roles.scopes_of([Grant(role)])) == held, role
    assert set(scopes.SCOPES) <= HELD.keys()


def test_roles__limited_to_a_department_hold_it_there_only():
    found = roles.scopes_of([Grant("viewer"), Grant("operator", "lab"), Grant("viewer", "lab")])
    assert found[:4] == ["runs.read", "departments.read", "dead_letters.read", "schedules.read"]
    assert "lab:runs.write" in found
    assert "lab:runs.read" not in found, "held in every department already"
    assert len(set(found)) == len(found)
    held = policy.of_scopes(tuple(found))
    assert held.allows("runs.write", "lab")
    assert not held.allows("runs.write", "finance")
    assert held.allows("runs.read", "finance")


def test_roles__unknown_to_this_version_hold_nothing():
    assert roles.scopes_of([Grant("wizard"), Grant("wizard", "lab")]) == []


@pytest.mark.parametrize("text", ["finance:runs.read", "finance:runs.*", "a_b:dead_letters.read"])
def test_parse__takes_a_scope_of_one_department(text):
    assert scopes.parse(f"{text}, runs.read") == [text, "runs.read"]


@pytest.mark.parametrize("text", [":runs.read", "a:b:runs.read", "a b:runs.fly", "a-b:runs.read"])
def test_parse__refuses_what_names_no_department(text):
    with pytest.raises(UnknownScopeError):
        scopes.parse(text)


@pytest.mark.parametrize(
    ("scope", "seen_by"),
    [
        ("runs.write", "runs.read"),
        ("runs.read", "runs.read"),
        ("dead_letters.write", "dead_letters.read"),
        ("artifacts.read", "runs.read"),
        ("approvals.decide", "runs.read"),
    ],
)
def test_seen_by__names_the_scope_that_shows_the_thing(scope, seen_by):
    assert scopes.seen_by(scope) == seen_by
