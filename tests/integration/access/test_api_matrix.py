"""Role × endpoint × department, written out: who gets where through the API.

Every address of the installation must have a row here, or stand among the open ones. Cells:
`y` let through, `n` refused (403 naming the scope), `.` not there (404; of a list: not listed;
of a start: an automation nobody knows).
"""

from __future__ import annotations

import json

import pytest
from django.db import transaction
from django.urls import URLResolver, get_resolver

from engine.access import roles
from engine.access.roles import Grant
from engine.access.scopes import SCOPES
from tests.integration.faces import ApiClient

#: Columns: viewer, operator, approver, admin; held everywhere, then in `lab` only, asking for what
#: is of `lab`, then asking for what is of `courier`. Last the one scope that it takes.
TABLE = """
GET    runs                  yyyy yyyy ....  runs.read
POST   runs                  nyny nyny n.n.  runs.write
POST   runs-cancel           nyny nyny n.n.  runs.write
GET    run                   yyyy yyyy ....  runs.read
PATCH  run                   nyny nyny n.n.  runs.write
GET    run-steps             yyyy yyyy ....  runs.read
GET    run-events            yyyy yyyy ....  runs.read
GET    run-artifacts         yyyy yyyy ....  runs.read
GET    run-stream            yyyy yyyy ....  runs.read
GET    run-why               yyyy yyyy ....  runs.read
POST   run-cancel            nyny nyny n.n.  runs.write
POST   run-pause             nyny nyny n.n.  runs.write
POST   run-resume            nyny nyny n.n.  runs.write
POST   run-retry             nyny nyny n.n.  runs.write
GET    artifact              nyyy nyyy n...  artifacts.read
GET    dead-letters          yyyy yyyy ....  dead_letters.read
POST   dead-letters-requeue  nyny nyny n.n.  dead_letters.write
POST   dead-letters-discard  nyny nyny n.n.  dead_letters.write
GET    dead-letter           yyyy yyyy ....  dead_letters.read
POST   dead-letter-requeue   nyny nyny n.n.  dead_letters.write
POST   dead-letter-discard   nyny nyny n.n.  dead_letters.write
GET    departments           yyyy yyyy ....  departments.read
GET    department            yyyy yyyy ....  departments.read
GET    department-stream     yyyy yyyy ....  -
POST   department-pause      nyny nyny n.n.  departments.write
POST   department-resume     nyny nyny n.n.  departments.write
GET    automations           yyyy yyyy ....  departments.read
GET    automation            yyyy yyyy ....  departments.read
GET    webhooks              nyny nyny n.n.  webhooks.read
POST   webhooks              nnny nnny nnnn  webhooks.write
GET    webhook               nyny nyny n.n.  webhooks.read
PATCH  webhook               nnny nnny nnn.  webhooks.write
DELETE webhook               nnny nnny nnn.  webhooks.write
POST   webhook-rotate-secret nnny nnny nnn.  webhooks.write
POST   webhook-enable        nnny nnny nnn.  webhooks.write
POST   webhook-disable       nnny nnny nnn.  webhooks.write
POST   webhook-test          nnny nnny nnn.  webhooks.write
GET    webhook-deliveries    nyny nyny n.n.  webhooks.read
GET    webhook-delivery      nyny nyny n.n.  webhooks.read
POST   webhook-resend        nnny nnny nnn.  webhooks.write
GET    incoming-hooks        nyny nyny n.n.  webhooks.read
POST   incoming-hooks        nnny nnny nnn.  -
GET    incoming-hook         nyny nyny n.n.  webhooks.read
PATCH  incoming-hook         nnny nnny nnn.  webhooks.write
DELETE incoming-hook         nnny nnny nnn.  webhooks.write
POST   incoming-hook-rotate-secret nnny nnny nnn.  webhooks.write
GET    auth-me               yyyy yyyy yyyy  -
"""
ROLES = ["viewer", "operator", "approver", "admin"]
#: Addresses that no token opens: what each shows is open to all, or proves itself otherwise.
OPEN = {
    "home",
    "livez",
    "readyz",
    "health",
    "health-manager",
    "metrics",
    "openapi",
    "docs",
    "favicon.ico",
    "auth-token",
    "auth-refresh",
    # By the token in its address, and the signature of the body.
    "hook",
    "auth-revoke",
}

_ROWS = [line.split() for line in TABLE.strip().splitlines()]
MATRIX = {(method, name): (cells, scope) for method, name, *cells, scope in _ROWS}
#: What a call that was let through may be answered: an act that is not legal now is a conflict.
THROUGH = {200, 201, 202, 204, 409}


def patterns(resolver):
    """Return (name, entry) of every address but the admin's, which has a table of its own."""
    for entry in resolver.url_patterns:
        if str(entry.pattern).startswith("admin/"):
            continue
        if isinstance(entry, URLResolver):
            yield from patterns(entry)
        else:
            yield entry.name or str(entry.pattern), entry


def methods(pattern):
    view = getattr(pattern.callback, "view_class", None) or getattr(pattern.callback, "cls", None)
    if view is None:
        return {"GET"}
    return {
        method.upper()
        for method in view.http_method_names
        if hasattr(view, method) and method not in {"options", "head"}
    }


def test_matrix__has_a_row_for_every_address():
    closed = [(name, one) for name, one in patterns(get_resolver()) if name not in OPEN]
    asked = {(method, name) for name, one in closed for method in methods(one)}
    assert asked == MATRIX.keys()


# --- what is asked for ---------------------------------------------------------------------------


class Anything:
    """Name what need not be there."""

    def __getattr__(self, _name):
        return "1"


def address(name, of):
    path = str(dict(patterns(get_resolver()))[name].pattern)
    for part, value in {
        "run_id": of.run,
        "artifact_id": of.artifact,
        "dead_letter_id": of.letter,
        "webhook_id": of.webhook,
        "delivery_id": of.delivery,
        "hook_id": of.hook,
        "slug": of.department,
        "name": of.automation,
    }.items():
        path = path.replace(f"<str:{part}>", str(value))
    assert "<" not in path, path
    return f"/{path}"


BODIES = {
    ("POST", "runs"): lambda of: {"automation": of.automation},
    ("PATCH", "run"): lambda of: {"priority": 1},
    ("POST", "webhooks"): lambda of: {
        "url": "https://93.184.215.14/told",
        "department": of.department,
    },
    # It takes `runs.write` as well: `test_incoming` asks for each of the two.
    ("POST", "incoming-hooks"): lambda of: {"automation": of.automation},
    ("PATCH", "incoming-hook"): lambda of: {"description": "other"},
    ("PATCH", "webhook"): lambda of: {"description": "other"},
    ("POST", "runs-cancel"): lambda of: {"filter": {"department": of.department}},
    ("POST", "dead-letters-requeue"): lambda of: {"filter": {"department": of.department}},
    ("POST", "dead-letters-discard"): lambda of: {"filter": {"department": of.department}},
}
#: Calls that are answered 200 whatever they reach: what counts is what they show.
LISTS = {"runs", "dead-letters", "departments", "automations", "webhooks", "incoming-hooks"}
#: Likewise; without `apply` they show what they would act on.
BULK = {"runs-cancel", "dead-letters-requeue", "dead-letters-discard"}


def outcome(client, method, name, of):
    """Return the cell that an answer stands for, and the answer; what it did is undone."""
    body = BODIES.get((method, name))
    with transaction.atomic():
        answered = client.generic(
            method,
            address(name, of),
            json.dumps(body(of)) if body else "",
            content_type="application/json",
        )
        transaction.set_rollback(True)
    if answered.streaming:
        if answered.is_async:
            # Of a stream of events the status is enough. Closing the answer itself would close the
            # connection of the test's transaction.
            for give_back in answered._resource_closers:
                give_back()
        else:
            b"".join(answered.streaming_content)
        return "y", answered
    told = answered.json() if answered.content else {}
    if answered.status_code == 403:
        assert told["code"] == "scope_missing"
        return "n", answered
    if answered.status_code == 404 or told.get("code") == "automation_unknown":
        return ".", answered
    assert answered.status_code in THROUGH, (method, name, answered.status_code, told)
    if name in BULK or (method == "GET" and name in LISTS):
        shown = {key(row, name) for row in told["results"]}
        return "y" if shown & marks(of) else ".", answered
    return "y", answered


def marks(of):
    """Return what a list would show of these."""
    kept = {("webhook", of.webhook), ("hook", of.hook)}
    return {of.run, of.letter, of.department, of.automation} | kept


def key(row, name):
    """Return what a row of a list is known by."""
    if name == "webhooks":
        return "webhook", row["id"]
    if name == "incoming-hooks":
        return "hook", row["id"]
    return row.get("id") or row.get("slug") or row["name"]


def holder(role, department=""):
    return ApiClient(*roles.scopes_of([Grant(role, department)]))


@pytest.mark.parametrize(("method", "name"), MATRIX)
def test_roles__get_where_the_table_says(things, method, name):
    (everywhere, own, other), _scope = MATRIX[method, name]
    for number, role in enumerate(ROLES):
        found = [
            outcome(holder(role), method, name, things["lab"])[0],
            outcome(holder(role), method, name, things["courier"])[0],
            outcome(holder(role, "lab"), method, name, things["lab"])[0],
            outcome(holder(role, "lab"), method, name, things["courier"])[0],
        ]
        expected = [everywhere[number], everywhere[number], own[number], other[number]]
        assert found == expected, role


@pytest.mark.parametrize(("method", "name"), [row for row in MATRIX if MATRIX[row][1] != "-"])
def test_bare_scope__opens_what_it_is_for_and_all_others_do_not(things, method, name):
    _cells, scope = MATRIX[method, name]
    others = [one for one in SCOPES if one != scope]
    for of in things.values():
        cell, answered = outcome(ApiClient(*others), method, name, of)
        assert (cell, answered.json()["scope"]) == ("n", scope)
    elsewhere = outcome(ApiClient(f"courier:{scope}"), method, name, things["lab"])[0]
    assert elsewhere == ("n" if (method, name) == ("POST", "webhooks") else ".")
    assert outcome(ApiClient(f"lab:{scope}"), method, name, things["lab"])[0] == "y"
    assert outcome(ApiClient(scope), method, name, things["courier"])[0] == "y"


@pytest.mark.parametrize(("method", "name"), MATRIX)
def test_nobody__gets_nowhere(db, method, name):
    client = ApiClient()
    client.bearer = ""
    assert client.generic(method, address(name, Anything())).status_code == 401
