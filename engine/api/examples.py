"""What calls and answers look like: one example of each form, shown in `/openapi.json` and `/docs`.

By the name of the form; a test holds each to its schema. Forms of other rooms stand in `examples`
of the views that answer them.
"""

from __future__ import annotations

from typing import Any

RUN_ID = "0199c0de-5e27-73d3-bfe2-371280e90541"
SHA256 = "155f4d8e23f570da8979a1b081038274f83fc0fb5ac0ac1cbcc5473115dc2493"
_TOKEN, _REFRESH = "eyJhbGciOiJIUzI1NiIs…", "eyJ0b2tlbl90eXBlIjoi…"
_SECRET = "whsec_…"  # noqa: S105 - same # nosec B105

_LEDGER = {"sha256": SHA256, "name": "ledger.csv", "size": 243866, "media_type": "text/csv"}
_FAILURE = {"code": "lookup_failed", "message": "The exchange rate of 2026-11-27 is not there."}
_SUMMARY = {
    "payloads_hidden": False,
    "id": RUN_ID,
    "automation": "finance.cashflow_report",
    "version": 1,
    "department": "finance",
    "state": "running",
    "generation": 1,
    "trigger": "api",
    "created_by": "anna",
    "dedupe_key": "ledger-2026-11",
    "correlation_id": "month-end-2026-11",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "priority": 0,
    "tags": ["month-end"],
    "error": None,
    "deadline_at": None,
    "created_at": "2026-11-30T08:41:03.319647Z",
    "started_at": "2026-11-30T08:41:03.412855Z",
    "finished_at": None,
    "duration_seconds": None,
}
_RUN = _SUMMARY | {
    "input": {"title": "Cash-flow report", "ledger": _LEDGER},
    "progress": {
        "total": 37,
        "done": 12,
        "running": 2,
        "failed": 0,
        "waiting": 23,
        "percent": 32.4,
        "by_state": {"succeeded": 12, "running": 2, "waiting": 23},
    },
    "output": None,
}
_STEP = {
    "payloads_hidden": False,
    "id": 4711,
    "step": "month_totals",
    "map_index": 10,
    "kind": "step",
    "state": "running",
    "queue": "finance",
    "attempt": 1,
    "failures": 0,
    "crashes": 0,
    "worker": "worker1@host/18713",
    "error": None,
    "next_at": None,
    "ready_at": "2026-11-30T08:41:04.955904Z",
    "started_at": "2026-11-30T08:41:05.021131Z",
    "finished_at": None,
}
_EVENT = {
    "payloads_hidden": False,
    "id": 90210,
    "kind": "step.started",
    "step_id": 4711,
    "attempt": 1,
    "actor": "worker1@host/18713",
    "data": {},
    "at": "2026-11-30T08:41:05.021131Z",
}
_ARTIFACT_ID = "0199c0de-61d4-7043-a6c1-04158be2a12b"
_ARTIFACT = {
    "payloads_hidden": False,
    "id": _ARTIFACT_ID,
    "name": "report.pdf",
    "media_type": "application/pdf",
    "size": 245963,
    "sha256": SHA256,
    "created_at": "2026-11-30T08:41:07.550481Z",
    "url": f"/artifacts/{_ARTIFACT_ID}",
}
_WHY = {
    "step_id": 4712,
    "step": "render_report",
    "state": "waiting",
    "reason_code": "dependency",
    "text": "Waits for month_totals.",
    "details": {"parents": ["month_totals"]},
}
_LETTER = {
    "payloads_hidden": False,
    "id": 17,
    "run_id": RUN_ID,
    "department": "finance",
    "automation": "finance.cashflow_report",
    "step": "month_totals",
    "map_index": 10,
    "state": "open",
    "error": _FAILURE,
    "attempts": 3,
    "crashes": 0,
    "created_at": "2026-11-30T08:41:09.120000Z",
    "resolved_at": None,
    "resolved_by": "",
}
_PREVIEW = {
    "applied": False,
    "matched": 1,
    "more": False,
    "as_of": "2026-11-30T08:45:00Z",
    "done": [],
    "refused": [],
}
_WEBHOOK = {
    "id": 3,
    "url": "https://example.com/engine-events",
    "description": "Accounting",
    "event_types": ["run.completed", "run.failed"],
    "department": "finance",
    "enabled": True,
    "disabled_reason": "",
    "disabled_at": None,
    "failures": 0,
    "failing_since": None,
    "old_secret_until": None,  # no secret # nosec B105
    "created_at": "2026-11-30T08:00:00Z",
    "created_by": "anna",
}
_DELIVERY = {
    "payloads_hidden": False,
    "id": 501,
    "webhook_id": 3,
    "message_id": "msg_501",
    "event_id": "90233",
    "event_type": "run.completed",
    "run_id": RUN_ID,
    "department": "finance",
    "status": "delivered",
    "attempt": 1,
    "next_at": None,
    "response_code": 200,
    "error_code": "",
    "excerpt": "ok",
    "duration_ms": 41,
    "attempted_at": "2026-11-30T08:41:08.100000Z",
    "finished_at": "2026-11-30T08:41:08.141000Z",
    "created_at": "2026-11-30T08:41:07.600000Z",
    "payload": {"type": "run.completed", "data": {"run_id": RUN_ID}},
}
_HOOK = {
    "id": 5,
    "description": "Statements of the bank",
    "automation": "finance.cashflow_report",
    "department": "finance",
    "signed": True,
    "input_field": "",
    "enabled": True,
    "old_secret_until": None,  # no secret # nosec B105
    "created_at": "2026-11-30T08:00:00Z",
    "created_by": "anna",
}
_TOKENS = {
    "access": _TOKEN,
    "token_type": "Bearer",  # no secret # nosec B105
    "expires_in": 900,
    "scopes": ["runs.*", "artifacts.read"],
    "refresh": _REFRESH,
}


def _list(entry: dict[str, Any], *, following: str | None = None, **more: Any) -> dict[str, Any]:
    return {"results": [entry], "next": following, **more}


#: Of a form, by its name; bulk acts show themselves as previews, which change nothing.
BY_FORM: dict[str, Any] = {
    "ArtifactList": _list(_ARTIFACT),
    "BulkCancel": {
        "filter": {"department": "finance", "state": "blocked", "tag": "month-end"},
        "apply": False,
        "limit": 200,
    },
    "BulkDeadLetters": {
        "filter": {"automation": "finance.cashflow_report", "error_code": "lookup_failed"},
        "apply": False,
    },
    "BulkLetters": _PREVIEW | {"results": [_LETTER]},
    "BulkRuns": _PREVIEW | {"results": [_SUMMARY | {"state": "blocked"}]},
    "Credentials": {"username": "anna", "password": "…"},  # no password # nosec B105
    "DeadLetterEntry": _LETTER,
    "DeadLetterList": _list(_LETTER),
    "DeliveryEntry": _DELIVERY,
    "DeliveryList": _list(_DELIVERY),
    "EventList": _list(_EVENT, follow=f"https://example.com/runs/{RUN_ID}/events?after=90210"),
    "HookAnswer": {"run_id": RUN_ID, "created": True},
    "HookChange": {"enabled": False},
    "HookEntry": _HOOK,
    "HookList": _list(_HOOK),
    "HookRequest": {
        "automation": "finance.cashflow_report",
        "description": "Statements of the bank",
    },
    "HookWithSecret": _HOOK | {"secret": _SECRET},
    "HookWithToken": _HOOK | {"url": "https://example.com/hooks/…", "secret": _SECRET},
    "Me": {
        "subject": "anna",
        "scopes": ["runs.*", "artifacts.read"],
        "expires_at": "2026-11-30T09:40:15Z",
    },
    "RefreshRequest": {"refresh": _REFRESH},
    "Revoked": {"tokens": 1, "sign_ins": 0},
    "RevokeRequest": {"token": _TOKEN},
    "RunChange": {"priority": 10, "tags": ["month-end", "urgent"]},
    "RunDetail": _RUN,
    "RunList": _list(
        _SUMMARY,
        following=f"https://example.com/runs?limit=1&before={RUN_ID}",
        previous=None,
        count=1000,
        count_is_exact=False,
    ),
    "RunRequest": {
        "automation": "finance.cashflow_report",
        "input": {"title": "Cash-flow report"},
        "dedupe_key": "ledger-2026-11",
        "correlation_id": "month-end-2026-11",
        "tags": ["month-end"],
    },
    "SecretRequest": {},
    "StepList": _list(_STEP),
    "TokenPair": _TOKENS,
    "WebhookChange": {"event_types": ["run.failed"]},
    "WebhookEntry": _WEBHOOK,
    "WebhookList": _list(_WEBHOOK),
    "WebhookRequest": {
        "url": "https://example.com/engine-events",
        "description": "Accounting",
        "event_types": ["run.completed", "run.failed"],
    },
    "WebhookWithSecret": _WEBHOOK | {"secret": _SECRET},
    "WhyList": _list(
        _WHY,
        run={"reason_code": "running", "text": "Two steps are running.", "details": {}},
    ),
}
#: Of bodies that are described in place, by the operation and the media type.
BY_CALL: dict[tuple[str, str], Any] = {
    ("startRun", "multipart/form-data"): {
        "automation": "finance.cashflow_report",
        "input": '{"title": "Cash-flow report"}',
        "tags": '["month-end"]',
        "ledger": "date;amount;text\n2026-11-02;-12.50;Coffee\n",
    },
    ("callHook", "application/json"): {"title": "Cash-flow report"},
}
