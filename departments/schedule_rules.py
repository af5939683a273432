"""What a schedule must be: every field that is not valid is named, with the reason."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from departments import fire_times
from departments.models import Automation, Schedule
from engine import registry, runs
from engine.errors import InputInvalidError

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = re.compile(r"[-a-zA-Z0-9_]+")
MAX_NAME_CHARACTERS, MAX_CRON_CHARACTERS, MAX_ZONE_CHARACTERS = 100, 100, 63
#: Runs made up for at once: they are submitted in one transaction.
CATCH_UP_LIMITS = range(1, 1001)
CATCH_UPS = [word for word, _text in Schedule.CATCH_UP]


def check(schedule: Schedule) -> None:
    """Raise InputInvalidError naming each field that is not valid, `input.<field>` below input."""
    problems = [*_own(schedule), *_of_its_automation(schedule)]
    if problems:
        raise InputInvalidError(
            "; ".join(f"{found['field']}: {found['reason']}" for found in problems),
            problems=problems,
        )


def _own(schedule: Schedule) -> list[dict[str, str]]:
    """Return what is wrong with its name and with when it fires."""
    checks: list[tuple[str, Callable[[], object]]] = [
        ("name", lambda: _check_name(schedule.name)),
        ("cron", lambda: _check_cron(schedule.cron)),
        ("time_zone", lambda: _check_zone(schedule.time_zone)),
    ]
    problems = []
    for field, rule in checks:
        try:
            rule()
        except ValueError as exc:
            problems.append({"field": field, "reason": str(exc)})
    if schedule.catch_up not in CATCH_UPS:
        problems.append({"field": "catch_up", "reason": f"one of {', '.join(CATCH_UPS)}"})
    if schedule.catch_up_limit not in CATCH_UP_LIMITS:
        reason = f"between {CATCH_UP_LIMITS[0]} and {CATCH_UP_LIMITS[-1]}"
        problems.append({"field": "catch_up_limit", "reason": reason})
    return problems


def _of_its_automation(schedule: Schedule) -> list[dict[str, str]]:
    """Return what is wrong with what it starts, and with what."""
    name = schedule.automation_id
    if name not in registry.automations:
        known = ", ".join(sorted(registry.automations)) or "none"
        return [{"field": "automation", "reason": f"unknown: {name!r}; there are: {known}"}]
    if not Automation.objects.filter(pk=name).exists():
        return [{"field": "automation", "reason": "not published yet: run sync_catalog"}]
    try:
        runs.validated_input(declared=registry.automation(name), given=schedule.input)
    except InputInvalidError as exc:
        return [
            {"field": f"input.{found['field']}".rstrip("."), "reason": found["reason"]}
            for found in exc.problems
        ]
    return []


def _check_name(name: str) -> None:
    if len(name) > MAX_NAME_CHARACTERS or not NAME.fullmatch(name):
        raise ValueError(f"letters, digits, hyphens, underscores, at most {MAX_NAME_CHARACTERS}")


def _check_cron(cron: str) -> None:
    if len(cron) > MAX_CRON_CHARACTERS:
        raise ValueError(f"at most {MAX_CRON_CHARACTERS} characters")
    fire_times.check(cron)


def _check_zone(name: str) -> None:
    if len(name) > MAX_ZONE_CHARACTERS:
        raise ValueError(f"at most {MAX_ZONE_CHARACTERS} characters")
    fire_times.zone(name)
