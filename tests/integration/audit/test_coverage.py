"""Every unsafe act leaves a record, and every one that is added must bring its case here.

A case does the act and names the record it must leave: (action, kind of thing, id or None for any).
"""

from __future__ import annotations

from io import StringIO
from unittest import mock

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command

from departments.models import Department
from engine.access import grants
from engine.models import AuditRecord
from orchestration import streams
from tests.integration import faces
from tests.integration.audit import acts

JSON = "application/json"
STEER = ("cancel", "pause")


def api(path, body=None, method="post"):
    """Return an act through the API; `path` may ask the world for what it names."""

    def act(world):
        address, identity = path(world) if callable(path) else (path, None)
        answer = getattr(world.api, method)(address, body or {}, content_type=JSON)
        assert answer.status_code < 300, answer.content
        return identity

    return act


def run(verb, make="run"):
    def path(world):
        found = getattr(world, make)()
        return f"/runs/{found}{verb}", found

    return path


def of_letter(world, verb):
    letter = world.letter()
    return f"/dead-letters/{letter.pk}/{verb}", str(letter.pk)


def retry(world):
    letter = world.letter()
    return f"/runs/{letter.run_id}/retry", str(letter.run_id)


def many(path, make):
    def act(world):
        found = make(world)
        body = {"filter": {"department": "lab"}, "apply": True}
        answer = world.api.post(path, body, content_type=JSON)
        assert answer.status_code == 200, answer.content
        return getattr(found, "pk", found)

    return act


def of_webhook(rest="", body=None, method="post"):
    def path(world):
        found = world.webhook()
        return f"/webhooks/{found}{rest}", found

    return api(path, body, method)


def of_hook(rest="", body=None, method="post"):
    def path(world):
        found = world.hook()
        return f"/webhooks/incoming/{found.pk}{rest}", found.pk

    return api(path, body, method)


def resent(world):
    webhook, delivery = world.delivery()
    return f"/webhooks/{webhook}/deliveries/{delivery}/resend", delivery


def refresh(world):
    credentials = {"username": "operator", "password": "right-9-horse"}
    pair = world.api.post("/auth/token", credentials, content_type=JSON).json()
    answer = world.api.post("/auth/refresh", {"refresh": pair["refresh"]}, content_type=JSON)
    assert answer.status_code == 200
    return "operator"


def revoke(world):
    jti = world.token().jti
    world.api.bearer = faces.token("admin.*")
    answer = world.api.post("/auth/revoke", {"jti": jti}, content_type=JSON)
    assert answer.json()["tokens"] == 1
    return jti


API = {
    "POST /runs": ("run.submit", api("/runs", {"automation": "lab.squares"})),
    "PATCH /runs/{run_id}": ("run.amend", api(run(""), {"priority": 7}, method="patch")),
    "POST /runs/{run_id}/cancel": ("run.cancel", api(run("/cancel"))),
    "POST /runs/{run_id}/pause": ("run.pause", api(run("/pause"))),
    "POST /runs/{run_id}/resume": ("run.resume", api(run("/resume", "paused"))),
    "POST /runs/{run_id}/retry": ("run.retry", api(retry)),
    "POST /dead-letters/{dead_letter_id}/requeue": (
        "dead_letter.requeue",
        api(lambda world: of_letter(world, "requeue")),
    ),
    "POST /dead-letters/{dead_letter_id}/discard": (
        "dead_letter.discard",
        api(lambda world: of_letter(world, "discard")),
    ),
    "POST /runs/cancel": ("run.cancel", many("/runs/cancel", acts.World.run)),
    "POST /dead-letters/requeue": (
        "dead_letter.requeue",
        many("/dead-letters/requeue", acts.World.letter),
    ),
    "POST /dead-letters/discard": (
        "dead_letter.discard",
        many("/dead-letters/discard", acts.World.letter),
    ),
    "POST /webhooks/incoming": (
        "hook.create",
        api("/webhooks/incoming", {"automation": "lab.squares"}),
    ),
    "PATCH /webhooks/incoming/{hook_id}": (
        "hook.change",
        of_hook(body={"enabled": False}, method="patch"),
    ),
    "DELETE /webhooks/incoming/{hook_id}": ("hook.remove", of_hook(method="delete")),
    "POST /webhooks/incoming/{hook_id}/rotate-secret": (
        "hook.rotate_secret",
        of_hook("/rotate-secret"),
    ),
    "POST /webhooks": ("webhook.create", api("/webhooks", {"url": "https://a.example.org/"})),
    "PATCH /webhooks/{webhook_id}": (
        "webhook.change",
        of_webhook(body={"event_types": ["run.failed"]}, method="patch"),
    ),
    "DELETE /webhooks/{webhook_id}": ("webhook.remove", of_webhook(method="delete")),
    "POST /webhooks/{webhook_id}/enable": ("webhook.enable", of_webhook("/enable")),
    "POST /webhooks/{webhook_id}/disable": ("webhook.disable", of_webhook("/disable")),
    "POST /webhooks/{webhook_id}/rotate-secret": (
        "webhook.rotate_secret",
        of_webhook("/rotate-secret"),
    ),
    "POST /webhooks/{webhook_id}/test": ("webhook.test", of_webhook("/test")),
    "POST /webhooks/{webhook_id}/deliveries/{delivery_id}/resend": (
        "webhook.resend",
        api(resent),
    ),
    "POST /departments/{slug}/pause": (
        "department.pause",
        api(lambda _world: ("/departments/lab/pause", "lab")),
    ),
    "POST /departments/{slug}/resume": (
        "department.resume",
        api(lambda _world: ("/departments/lab/resume", "lab")),
    ),
    "POST /auth/token": (
        "auth.sign_in",
        api("/auth/token", {"username": "operator", "password": "right-9-horse"}),
    ),
    "POST /auth/refresh": ("auth.refresh", refresh),
    "POST /auth/revoke": ("token.revoke", revoke),
}


def selected(page, action, make):
    def act(world):
        found = make(world)
        identity = getattr(found, "pk", found)
        assert world.select(page, action, identity).status_code == 302
        return identity

    return act


def posted(address, make, data=None):
    """Return a post to a page of the admin; `address` may name the thing `{id}`."""

    def act(world):
        found = make(world)
        identity = getattr(found, "pk", found)
        answer = world.admin.post("/admin/" + address.format(id=identity), data or {})
        assert answer.status_code == 302, answer.context and answer.context["errors"]
        return identity

    return act


NEW_PASSWORD = {"password1": "wrong-3-staple", "password2": "wrong-3-staple"}
SCHEDULE = {
    "name": "nightly",
    "automation": "lab.squares",
    "cron": "0 5 * * *",
    "time_zone": "UTC",
    "catch_up": "latest",
    "catch_up_limit": "100",
    "input": "{}",
    "enabled": "on",
}
NO_ROLES = {"role_grants-TOTAL_FORMS": "0", "role_grants-INITIAL_FORMS": "0"}
PERSON = NO_ROLES | {
    "username": "ann",
    "first_name": "Ann",
    "is_staff": "on",
    "date_joined_0": "2026-01-01",
    "date_joined_1": "00:00:00",
}


def nothing(_world):
    return None


def named(make, name):
    """Let a case name its thing by another id than that of its row."""

    def act(world):
        make(world)
        return name

    return act


ADMIN = {
    "Run.cancel_selected": (
        "run.cancel",
        selected("engine/run", "cancel_selected", acts.World.run),
    ),
    "Run.pause_selected": ("run.pause", selected("engine/run", "pause_selected", acts.World.run)),
    "Run.resume_selected": (
        "run.resume",
        selected("engine/run", "resume_selected", acts.World.paused),
    ),
    "Run:act": ("run.cancel", posted("engine/run/{id}/act/cancel", acts.World.run)),
    "DeadLetter.requeue_selected": (
        "dead_letter.requeue",
        selected("engine/deadletter", "requeue_selected", acts.World.letter),
    ),
    "DeadLetter.discard_selected": (
        "dead_letter.discard",
        selected("engine/deadletter", "discard_selected", acts.World.letter),
    ),
    "DeadLetter:act": (
        "dead_letter.discard",
        posted("engine/deadletter/{id}/act/discard", acts.World.letter),
    ),
    "Effect.confirm_selected": (
        "effect.confirm",
        selected("engine/effect", "confirm_selected", acts.World.effect),
    ),
    "Effect.retry_selected": (
        "effect.retry",
        selected("engine/effect", "retry_selected", acts.World.effect),
    ),
    "Effect:act": ("effect.retry", posted("engine/effect/{id}/act/retry", acts.World.effect)),
    "Department.pause_selected": (
        "department.pause",
        selected("departments/department", "pause_selected", lambda _world: "lab"),
    ),
    "Department.resume_selected": (
        "department.resume",
        selected("departments/department", "resume_selected", lambda _world: "lab"),
    ),
    "Department:act": (
        "department.pause",
        posted("departments/department/{id}/act/pause", lambda _world: "lab"),
    ),
    "Schedule.enable_selected": (
        "schedule.enable",
        named(selected("departments/schedule", "enable_selected", acts.World.schedule), "nightly"),
    ),
    "Schedule.disable_selected": (
        "schedule.disable",
        named(selected("departments/schedule", "disable_selected", acts.World.schedule), "nightly"),
    ),
    "Schedule.delete_selected": (
        "schedule.remove",
        named(selected("departments/schedule", "delete_selected", acts.World.schedule), "nightly"),
    ),
    "Schedule.add": (
        "schedule.create",
        named(posted("departments/schedule/add/", nothing, SCHEDULE), "nightly"),
    ),
    "Schedule.change": (
        "schedule.change",
        named(
            posted("departments/schedule/{id}/change/", acts.World.schedule, SCHEDULE), "nightly"
        ),
    ),
    "Schedule.delete": (
        "schedule.remove",
        named(
            posted("departments/schedule/{id}/delete/", acts.World.schedule, {"post": "yes"}),
            "nightly",
        ),
    ),
    "User.add": (
        "user.create",
        named(
            posted(
                "auth/user/add/",
                nothing,
                {"username": "ann", "usable_password": "true"} | NEW_PASSWORD | NO_ROLES,
            ),
            "ann",
        ),
    ),
    "User.change": (
        "user.change",
        named(posted("auth/user/{id}/change/", acts.World.user, PERSON), "ann"),
    ),
    "User.delete": (
        "user.remove",
        named(posted("auth/user/{id}/delete/", acts.World.user, {"post": "yes"}), "ann"),
    ),
    "User.delete_selected": (
        "user.remove",
        named(selected("auth/user", "delete_selected", acts.World.user), "ann"),
    ),
    "MachineToken.revoke_selected": (
        "token.revoke",
        named(selected("engine/machinetoken", "revoke_selected", acts.World.token), None),
    ),
    "WebhookEndpoint.enable_selected": (
        "webhook.enable",
        selected("engine/webhookendpoint", "enable_selected", acts.World.webhook),
    ),
    "WebhookEndpoint.disable_selected": (
        "webhook.disable",
        selected("engine/webhookendpoint", "disable_selected", acts.World.webhook),
    ),
    "WebhookEndpoint:act": (
        "webhook.test",
        posted("engine/webhookendpoint/{id}/act/test", acts.World.webhook),
    ),
    "WebhookDelivery:act": (
        "webhook.resend",
        posted("engine/webhookdelivery/{id}/act/resend", lambda world: world.delivery()[1]),
    ),
    "IncomingHook:act": (
        "hook.change",
        posted("engine/incominghook/{id}/act/disable", acts.World.hook),
    ),
    "WebhookDelivery.resend_selected": (
        "webhook.resend",
        selected("engine/webhookdelivery", "resend_selected", lambda world: world.delivery()[1]),
    ),
    "IncomingHook.enable_selected": (
        "hook.change",
        selected("engine/incominghook", "enable_selected", acts.World.hook),
    ),
    "IncomingHook.disable_selected": (
        "hook.change",
        selected("engine/incominghook", "disable_selected", acts.World.hook),
    ),
    "Lockout.clear_selected": (
        "lockout.clear",
        named(selected("engine/lockout", "clear_selected", acts.World.lockout), None),
    ),
}

#: What the admin's site itself takes, beside the pages of its models.
SITE = {
    "a password of somebody else": (
        "user.password",
        named(
            posted(
                "auth/user/{id}/password/",
                acts.World.user,
                {"usable_password": "true", "set-password": "1"} | NEW_PASSWORD,
            ),
            "ann",
        ),
    ),
    "the own password": (
        "user.password",
        named(
            posted(
                "password_change/",
                nothing,
                {
                    "old_password": "right-9-horse",
                    "new_password1": "wrong-3-staple",
                    "new_password2": "wrong-3-staple",
                },
            ),
            "operator",
        ),
    ),
}


def command(*words, make=nothing, identity=None):
    """Return a command; words may name the thing `{id}`."""

    def act(world):
        found = make(world)
        found = getattr(found, "pk", found)
        out = StringIO()
        call_command(*(word.format(id=found) for word in words), stdout=out, stderr=out)
        return identity or found

    return act


def typed_password(world):
    world.user()
    with mock.patch("getpass.getpass", return_value="wrong-3-staple"):
        call_command("changepassword", "ann", stdout=StringIO())
    return "ann"


def on_webhook(verb, *words):
    return command("webhooks", verb, "{id}", *words, make=acts.World.webhook)


def resent_by_command(world):
    webhook, delivery = world.delivery()
    call_command("webhooks", "resend", str(webhook), str(delivery), stdout=StringIO())
    return delivery


def granted(world):
    grants.grant(user=world.user(), role="viewer", by="")


def superuser(_world):
    with mock.patch.dict("os.environ", DJANGO_SUPERUSER_PASSWORD="wrong-3-staple"):
        words = ("--noinput", "--username", "eve", "--email", "")
        call_command("createsuperuser", *words, stdout=StringIO())
    return "eve"


def withdrawn(_world):
    Department.objects.create(slug="gone", title="Gone", declared=True)
    call_command("sync_catalog", stdout=StringIO())


def pending_entry(_world):
    client = streams.client()
    streams.ensure_group()
    client.xadd(streams.EVENTS, {"event_type": "none"})
    client.xreadgroup(streams.GROUP, "idler", {streams.EVENTS: ">"})


NIGHTLY = ("nightly", "lab.squares", "--cron", "30 2 * * *")
COMMANDS = {
    "runs start": ("run.submit", command("runs", "start", "lab.squares")),
    "runs cancel": ("run.cancel", command("runs", "cancel", "{id}", make=acts.World.run)),
    "runs pause": ("run.pause", command("runs", "pause", "{id}", make=acts.World.run)),
    "runs resume": ("run.resume", command("runs", "resume", "{id}", make=acts.World.paused)),
    "runs retry": (
        "run.retry",
        command("runs", "retry", "{id}", make=lambda world: world.letter().run_id),
    ),
    "dlq requeue": (
        "dead_letter.requeue",
        command("dlq", "requeue", "{id}", "--apply", make=acts.World.letter),
    ),
    "dlq discard": (
        "dead_letter.discard",
        command("dlq", "discard", "{id}", "--apply", make=acts.World.letter),
    ),
    "effects confirm": (
        "effect.confirm",
        command("effects", "confirm", "{id}", make=acts.World.effect),
    ),
    "effects retry": (
        "effect.retry",
        command("effects", "retry", "{id}", "--apply", make=acts.World.effect),
    ),
    "departments pause": (
        "department.pause",
        command("departments", "pause", "lab", identity="lab"),
    ),
    "departments resume": (
        "department.resume",
        command("departments", "resume", "lab", identity="lab"),
    ),
    "schedules add": (
        "schedule.create",
        command("schedules", "add", *NIGHTLY, identity="nightly"),
    ),
    "schedules enable": (
        "schedule.enable",
        command("schedules", "enable", "nightly", make=acts.World.schedule, identity="nightly"),
    ),
    "schedules disable": (
        "schedule.disable",
        command("schedules", "disable", "nightly", make=acts.World.schedule, identity="nightly"),
    ),
    "schedules remove": (
        "schedule.remove",
        command(
            *("schedules", "remove", "nightly", "--apply"),
            make=acts.World.schedule,
            identity="nightly",
        ),
    ),
    "streams reset": (
        "stream.reset",
        command("streams", "reset", "--to", "0", "--apply", identity="automation.events"),
    ),
    "streams claim": (
        "stream.claim",
        command(
            *("streams", "claim", "heir", "--idle", "0", "--apply"),
            make=pending_entry,
            identity="automation.events",
        ),
    ),
    "lockouts clear": (
        "lockout.clear",
        command(
            *("lockouts", "clear", "--account", "operator"),
            make=acts.World.lockout,
            identity="operator",
        ),
    ),
    "roles grant": (
        "role.grant",
        command("roles", "grant", "ann", "viewer", make=acts.World.user, identity="ann"),
    ),
    "roles revoke": (
        "role.revoke",
        command("roles", "revoke", "ann", "viewer", "--apply", make=granted, identity="ann"),
    ),
    "hooks add": ("hook.create", command("hooks", "add", "lab.squares")),
    "hooks rotate": (
        "hook.rotate_secret",
        command("hooks", "rotate", "{id}", make=acts.World.hook),
    ),
    "hooks enable": ("hook.change", command("hooks", "enable", "{id}", make=acts.World.hook)),
    "hooks disable": ("hook.change", command("hooks", "disable", "{id}", make=acts.World.hook)),
    "hooks remove": (
        "hook.remove",
        command("hooks", "remove", "{id}", "--apply", make=acts.World.hook),
    ),
    "webhooks add": ("webhook.create", command("webhooks", "add", "https://a.example.org/")),
    "webhooks rotate": ("webhook.rotate_secret", on_webhook("rotate")),
    "webhooks enable": ("webhook.enable", on_webhook("enable")),
    "webhooks disable": ("webhook.disable", on_webhook("disable")),
    "webhooks remove": ("webhook.remove", on_webhook("remove", "--apply")),
    "webhooks test": ("webhook.test", on_webhook("test")),
    "webhooks resend": ("webhook.resend", resent_by_command),
    "mint_jwt": ("token.mint", command("mint_jwt", "--scopes", "runs.read")),
    "rotate_jwt_secret": ("signing_key.rotate", command("rotate_jwt_secret")),
    "revoke_token": (
        "subject.revoke",
        command("revoke_token", "--subject", "robot", make=acts.World.token, identity="robot"),
    ),
    "sync_catalog": ("catalog.sync", withdrawn),
    "changepassword": ("user.password", typed_password),
    "createsuperuser": ("user.create", superuser),
}

#: Acts that leave no record, and why that is right.
EXCEPTIONS = {
    # --- pages that change nothing whatever the method
    **dict.fromkeys(
        [
            f"{method} /{page}"
            for method in ("POST", "PUT", "PATCH", "DELETE")
            for page in ("", "favicon.ico")
        ],
        "redirect",
    ),
    **dict.fromkeys(
        [f"ANY /{name}" for name in ("livez", "readyz", "health", "health/manager", "metrics")],
        "answers GET and HEAD only",
    ),
    "POST /hooks/{token}": "nobody of ours acts; the run says which hook has started it",
    # --- the admin
    "ANY /admin/login/": "has tests of its own below: of what worked, and of what failed",
    "Artifact:download": "reads",
    # --- our commands that read
    **dict.fromkeys(
        [
            *(f"runs {verb}" for verb in ("list", "show", "watch", "why")),
            *(
                "lockouts list",
                "tokens list",
                "dlq list",
                "dlq show",
                "dlq export",
                "effects list",
                "effects show",
                "departments list",
            ),
            *("schedules list", "schedules next", "streams info", "streams pending"),
            *(
                "check_invariants",
                "env",
                "logs",
                "doctor",
                "audit list",
                "audit verify",
                "audit export",
            ),
            *("roles list", "webhooks list", "webhooks deliveries", "hooks list"),
        ],
        "reads",
    ),
    # --- our processes
    "manager": "a process of the installation: what it does nobody has asked it for just now",
    "up": "starts processes; its catalog, operator and sample report go through recorded doors",
    # --- Django's
    **dict.fromkeys(
        [
            *("check", "diffsettings", "showmigrations", "sqlflush", "sqlmigrate", "findstatic"),
            *("sqlsequencereset", "inspectdb", "dumpdata", "generateschema", "spectacular"),
            *("sendtestemail", "runserver", "test", "testserver"),
        ],
        "reads, or works on no data of ours",
    ),
    **dict.fromkeys(
        [
            *("compilemessages", "makemessages", "makemigrations", "optimizemigration"),
            *("squashmigrations", "startapp", "startproject", "collectstatic"),
        ],
        "writes files of a developer, no rows",
    ),
    **dict.fromkeys(
        [
            *("createcachetable", "migrate", "database_roles", "remove_stale_contenttypes"),
            "clearsessions",
        ],
        "changes tables or what expires by itself, as the owner; nothing an operator decides",
    ),
    **dict.fromkeys(
        ["dbshell", "flush", "loaddata", "shell"],
        "raw access to the database or to Python: what is done there nobody can know; see README",
    ),
}


@pytest.fixture
def world(line, tmp_path, outside, client, settings):
    settings.STATIC_ROOT = None
    return acts.World(line, tmp_path, outside, client)


def the_record(world, case) -> AuditRecord:
    action, act = case
    known = list(AuditRecord.objects.values_list("pk", flat=True))
    identity = act(world)
    fresh = AuditRecord.objects.exclude(pk__in=known).filter(action=action).order_by("-pk")
    found = fresh.first()
    assert found is not None, list(AuditRecord.objects.values_list("action", flat=True))
    if identity is not None:
        assert found.object_id == str(identity)
    assert found.object_id or action in {"catalog.sync", "lockout.clear"}
    assert found.outcome == "done"
    return found


@pytest.mark.parametrize("route", API)
def test_api__records(world, route):
    found = the_record(world, API[route])
    signing_in = found.action.startswith("auth.")
    assert (found.source, found.actor) == ("api", "operator" if signing_in else "tester")
    assert (found.address, len(found.request_id)) == ("127.0.0.1", 32)


@pytest.mark.parametrize("name", ADMIN)
def test_admin__records(world, name):
    found = the_record(world, ADMIN[name])
    assert (found.source, found.actor, found.address) == ("admin", "operator", "127.0.0.1")
    assert found.request_id


@pytest.mark.parametrize("name", SITE)
def test_admin_site__records(world, name):
    found = the_record(world, SITE[name])
    assert (found.source, found.actor) == ("admin", "operator")


@pytest.mark.parametrize("name", COMMANDS)
def test_command__records(world, name, broker):
    found = the_record(world, COMMANDS[name])
    assert found.source == "command"
    assert found.actor.startswith("command:")
    assert (found.address, found.request_id) == ("", "")


def test_coverage__every_unsafe_act_has_a_case_or_a_reason(world):
    looked_for = {
        "api": (acts.api_routes(), API),
        "admin": (acts.admin_acts(world.operator), ADMIN),
        "commands": (acts.commands(), COMMANDS),
    }
    for face, (found, cases) in looked_for.items():
        assert len(found) > 10, face
        missing = found - cases.keys() - EXCEPTIONS.keys()
        assert not missing, f"{face}: acts without a case that proves their record: {missing}"
    everything = set().union(*(found for found, _cases in looked_for.values()))
    stale = set(API | ADMIN | COMMANDS | EXCEPTIONS) - everything
    assert not stale, f"cases and reasons of acts that are gone: {stale}"


def test_sign_in__that_failed_is_recorded_without_what_was_typed(world):
    for name in ("operator", "my-secret-password"):
        body = {"username": name, "password": "no"}
        assert world.api.post("/auth/token", body, content_type=JSON).status_code == 401
        world.admin.logout()
        world.admin.post("/admin/login/", {"username": name, "password": "no"})
    found = AuditRecord.objects.filter(action="auth.sign_in", outcome="refused").order_by("pk")
    assert [(row.source, row.object_id) for row in found] == [
        ("api", "operator"),
        ("admin", "operator"),
        ("api", ""),
        ("admin", ""),
    ]
    assert all(row.address == "127.0.0.1" for row in found)


def test_sign_in__of_the_admin_is_recorded(world):
    world.admin.logout()
    given = {"username": "operator", "password": "right-9-horse"}
    assert world.admin.post("/admin/login/", given).status_code == 302
    found = AuditRecord.objects.get(action="auth.sign_in")
    assert (found.actor, found.source) == ("operator", "admin")


def test_change_of_a_person__says_what_was_and_what_is(world):
    ann = world.user()
    world.admin.post(f"/admin/auth/user/{ann.pk}/change/", PERSON)
    found = AuditRecord.objects.get(action="user.change")
    assert User.objects.get(username="ann").is_staff
    assert found.before == {
        "first_name": "",
        "is_staff": False,
        "is_active": True,
    }
    assert found.after == {
        "first_name": "Ann",
        "is_staff": True,
        "is_active": False,
    }


def test_change_of_a_schedule__tells_of_its_input_only_that_it_is_another(world):
    nightly = world.schedule()
    world.admin.post(f"/admin/departments/schedule/{nightly.pk}/change/", SCHEDULE)
    found = AuditRecord.objects.get(action="schedule.change")
    assert found.before.keys() == found.after.keys() == {"cron", "input_sha256"}
    assert (found.before["cron"], found.after["cron"]) == ("30 2 * * *", "0 5 * * *")


def test_refused_act__leaves_no_record(world):
    run_id = world.run()
    world.api.post(f"/runs/{run_id}/cancel")
    assert world.api.post(f"/runs/{run_id}/cancel").status_code == 409
    assert AuditRecord.objects.filter(action="run.cancel").count() == 1
    assert world.api.post("/runs", {"automation": "none"}, content_type=JSON).status_code == 400
    assert not AuditRecord.objects.filter(action="run.submit").exists()
