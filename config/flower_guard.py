"""Close what Flower leaves open, and say in words what it shows."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from config import local_secrets, secret_strength
from config.environment import flag, text
from orchestration import messages

if TYPE_CHECKING:
    from collections.abc import Sequence

VARIABLE = "FLOWER_BASIC_AUTH"
OPERATOR = "operator"
#: Task -> what a person reads.
TITLES = {
    messages.EXECUTE: "run steps",
    messages.NOTIFY_DEAD_LETTER: "tell of a dead letter",
}


def logins() -> list[str]:
    """Return `name:password` of the environment; on one machine that of `up`; else nothing."""
    if given := text("FLOWER_BASIC_AUTH", ""):
        return [given]
    if _is_production():
        return []
    path = settings.VAR_DIR / "secrets" / "flower_password"
    return [f"{OPERATOR}:{local_secrets.kept_secret(path)}"]


def problem(given: Sequence[str], *, by_oauth: bool) -> str:
    """Return in one line why Flower must not start with these logins, "" when it may."""
    if not given and not by_oauth:
        return (
            f"error: {VARIABLE} is not set: nobody may look at the queues without a password."
            f" Set it to name:password, or {VARIABLE}_FILE to a file that holds it"
        )
    for one in given:
        name, _separator, password = one.partition(":")
        if not name or not password or not one.isascii():
            # It compares texts in constant time, which Python does with ASCII only.
            return f"error: {VARIABLE} must be name:password, both in ASCII"
        if not _is_production():
            continue
        try:
            secret_strength.check({}, {VARIABLE: password})
        except ImproperlyConfigured as exc:
            return f"error: {exc}"
    return ""


def only_reads() -> bool:
    """Tell whether Flower may not shut workers down and the like: nothing records that it did."""
    return flag("FLOWER_READ_ONLY", default=True)


def close_metrics() -> None:
    """Ask for the login at /metrics too: Flower answers it to everybody."""
    from flower.views.monitor import Metrics  # noqa: PLC0415 - only Flower's process has it
    from tornado.web import authenticated  # noqa: PLC0415 - same

    Metrics.get = authenticated(Metrics.get)


def refuse_what_cannot_be_compared() -> None:
    """Answer 401 to a login that is not ASCII; Flower breaks on it, with a traceback in the log."""
    from flower.views import BaseHandler  # noqa: PLC0415 - only Flower's process has it
    from tornado.web import HTTPError  # noqa: PLC0415 - same

    look = BaseHandler.get_current_user

    def current_user(handler: Any) -> Any:
        try:
            return look(handler)
        except TypeError as exc:
            raise HTTPError(401) from exc

    BaseHandler.get_current_user = current_user


def readable(task: Any) -> Any:
    """Give a task its name in words; its arguments are ids, and its message does not show them."""
    task.name = TITLES.get(task.name, task.name)
    return task


def _is_production() -> bool:
    return os.environ.get("DJANGO_SETTINGS_MODULE", "").endswith(".production")
