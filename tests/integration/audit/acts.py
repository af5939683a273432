"""Every unsafe act of the platform, found by looking; and the things that acts are tried on."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from django.contrib import admin
from django.contrib.auth.models import User
from django.core.management import get_commands, load_command_class
from django.test import RequestFactory
from django.urls import URLPattern, URLResolver, get_resolver

from departments import schedules
from engine import runs
from engine.access import lockouts, machines
from engine.models import DeadLetter, Effect, IncomingHook, Lockout, MachineToken
from engine.webhooks import deliveries, endpoints, incoming
from tests.integration.faces import ALL, ApiClient, work

if TYPE_CHECKING:
    from collections.abc import Iterator

UNSAFE = ("post", "put", "patch", "delete")


def api_routes() -> set[str]:
    """Return `POST /runs/{run_id}/cancel` for every method that may change something.

    A view that is a plain function may take any: `ANY /path`.
    """
    found = set()
    for pattern in _leaves(get_resolver().url_patterns):
        view = getattr(pattern.callback, "cls", getattr(pattern.callback, "view_class", None))
        path = "/" + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", str(pattern.pattern))
        if view is None:
            found.add(f"ANY {path}")
        found |= {f"{method.upper()} {path}" for method in UNSAFE if hasattr(view, method)}
    return found


def _leaves(patterns) -> Iterator[URLPattern]:
    for pattern in patterns:
        if isinstance(pattern, URLPattern):
            yield pattern
        elif isinstance(pattern, URLResolver) and pattern.app_name != "admin":
            yield from _leaves(pattern.url_patterns)


def admin_acts(superuser) -> set[str]:
    """Return `Run.cancel_selected`, `User.add`, `Run.act`, … as a superuser is offered them."""
    request = RequestFactory().get("/")
    request.user = superuser
    found = set()
    for model, page in admin.site._registry.items():
        name = model.__name__
        found |= {f"{name}.{action}" for action in page.get_actions(request)}
        found |= {
            f"{name}.{verb}"
            for verb in ("add", "change", "delete")
            if getattr(page, f"has_{verb}_permission")(request)
        }
        ready_made = {"changelist", "add", "history", "delete", "change", ""}
        for pattern in page.get_urls():
            own = (pattern.name or "").rpartition("_")[2]
            if own not in ready_made:
                found.add(f"{name}:{own}")
    return found


def commands() -> set[str]:
    """Return `runs cancel`, `migrate`, …: every command, by subcommand where it has some."""
    found = set()
    for name, app in get_commands().items():
        command = load_command_class(app, name) if isinstance(app, str) else app
        below = getattr(command, "subcommands", {})
        if not below:
            parser = command.create_parser("manage.py", name)
            choices = [
                act.choices for act in parser._actions if act.nargs == "A..." and act.choices
            ]
            below = choices[0] if choices else {}
        found |= {f"{name} {verb}" for verb in below} or {name}
    return found


class World:
    """Things that acts are tried on, made when they are asked for."""

    def __init__(self, line, folder, outside, client) -> None:
        self.line, self.folder, self.outside = line, folder, outside
        self.api = ApiClient(*ALL, "webhooks.*")
        self.admin = client
        self.operator = User.objects.create_superuser("operator", "", "right-9-horse")
        client.force_login(self.operator)

    def run(self) -> str:
        """A run that has not begun."""
        return str(runs.submit(automation="lab.squares", input={}, trigger="api").run_id)

    def paused(self) -> str:
        """A run that is paused."""
        found = self.run()
        runs.pause(run_id=found, actor="")
        return found

    def letter(self) -> DeadLetter:
        """A dead letter of a blocked run."""
        given = {"folder": str(self.folder)}
        runs.submit(automation="lab.fragile", input=given, trigger="api")
        work(self.line)
        return DeadLetter.objects.latest("id")

    def effect(self) -> Effect:
        """An effect that nobody knows about."""
        (self.folder / "break_after_call").touch()
        given = {"url": self.outside.url, "folder": str(self.folder)}
        runs.submit(automation="lab.outside", input=given, trigger="api")
        self.line.deliver()
        return Effect.objects.latest("id")

    def schedule(self, **values):
        """A schedule that is enabled."""
        given = {"cron": "30 2 * * *", "input": {"count": 1}} | values
        return schedules.create(name="nightly", automation="lab.squares", actor="", **given)

    def lockout(self) -> Lockout:
        """A failed sign-in."""
        lockouts.begin(name="operator", address="")
        return Lockout.objects.get()

    def webhook(self) -> int:
        """A webhook that is told of everything."""
        row, _secret = endpoints.create(url="https://hooks.example.org/x", actor="")
        return row.pk

    def delivery(self) -> tuple[int, int]:
        """A webhook and what it was told."""
        webhook = self.webhook()
        return webhook, deliveries.send_test(endpoint_id=webhook, actor="").pk

    def hook(self) -> IncomingHook:
        """An incoming hook."""
        return incoming.create(automation="lab.squares", actor="")[0]

    def user(self) -> User:
        """A user without rights."""
        return User.objects.create_user("ann", "", "correct-7-battery")

    def select(self, page: str, action: str, identity: object):
        """Choose an action of a list in the admin."""
        data = {"action": action, "_selected_action": [str(identity)]}
        if action == "delete_selected":
            data["post"] = "yes"
        return self.admin.post(f"/admin/{page}/", data)

    def token(self):
        """Return a token of a machine."""
        machines.mint(
            subject="robot",
            scopes=["runs.read"],
            ttl_seconds=60,
            now=datetime.now(UTC),
            by="somebody",
        )
        return MachineToken.objects.latest("pk")
