"""`/livez`, `/readyz`, `/health`, `/health/manager`: answered from background probes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.http import JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from config.dependencies import prober
from config.probes import DEGRADED, HEALTHY, UNHEALTHY, Answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.http import HttpRequest, HttpResponse

UNAVAILABLE = 503
#: Without these nothing works; without the others work waits.
_VITAL = ("database", "redis", "migrations")
#: What `/health` shows; the manager's own page tells more.
_SHOWN = ("database", "redis", "manager", "workers", "migrations")


@csrf_exempt  # a POST is 405 in JSON like everywhere, not a page about cookies
@require_safe
def live(_request: HttpRequest) -> HttpResponse:
    """Say that this process answers."""
    return JsonResponse({"status": "alive"})


@csrf_exempt
@require_safe
def ready(_request: HttpRequest) -> HttpResponse:
    """Say whether requests can be served: database, migrations, Redis."""
    answers = prober.answers()
    checks = {name: _shown(answers[name]) for name in _VITAL}
    good = all(answers[name].status == HEALTHY for name in _VITAL)
    return _answer("ready" if good else "unready", good=good, checks=checks)


@csrf_exempt
@require_safe
def overall(_request: HttpRequest) -> HttpResponse:
    """Say how every dependency is."""
    found = prober.answers()
    answers = {name: found[name] for name in _SHOWN} | {"manager": _manager(found)}
    status = HEALTHY
    if any(answer.status != HEALTHY for answer in answers.values()):
        status = DEGRADED
    if any(answers[name].status != HEALTHY for name in _VITAL):
        status = UNHEALTHY
    reasons = [f"{name}: {a.reason}" for name, a in answers.items() if a.status != HEALTHY]
    return _answer(
        status,
        good=status == HEALTHY,
        reason="; ".join(reasons),
        dependencies={name: _shown(answer) for name, answer in answers.items()},
    )


@csrf_exempt
@require_safe
def manager(_request: HttpRequest) -> HttpResponse:
    """Say how the managers are: who they are, their loops, the stream, what waits to be sent."""
    answers = prober.answers()
    found, instances = _manager(answers), answers["instances"].details
    return _answer(
        found.status,
        good=found.status == HEALTHY,
        **{key: value for key, value in _shown(found).items() if key != "status"},
        heartbeat_age_seconds=instances.get("heartbeat_age_seconds"),
        instances=instances.get("instances", []),
        stream=_shown(answers["stream"]),
        dispatch_backlog=_shown(answers["backlog"]),
    )


def _manager(answers: Mapping[str, Answer]) -> Answer:
    """Judge managers by the locks they hold and by what they say: a hung one holds them still."""
    locks, words = answers["manager"], answers["instances"]
    worse = locks if locks.status != HEALTHY else words
    return Answer(worse.status, worse.reason, locks.details)


def _shown(answer: Answer) -> dict[str, Any]:
    reason = {"reason": answer.reason} if answer.reason else {}
    return {"status": answer.status, **reason, **answer.details}


def _answer(status: str, *, good: bool, **members: Any) -> HttpResponse:
    body = {"status": status, "checked_at": datetime.now(UTC).isoformat(), **members}
    response = JsonResponse(body, status=200 if good else UNAVAILABLE)
    response["Cache-Control"] = "no-store"
    # The reason stands in the answer; a traceback a poll would bury the log.
    response._has_been_logged = True  # type: ignore[attr-defined]  # noqa: SLF001 - Django reads it
    return response
