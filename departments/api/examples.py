"""What the answers about departments and automations look like, for `/openapi.json` and `/docs`."""

from __future__ import annotations

from typing import Any

_DEPARTMENT = {
    "slug": "finance",
    "title": "Finance",
    "purpose": "Keeps the books readable: where money came from, where it went, what comes next.",
    "declared": True,
    "queue": "finance",
    "paused": False,
    "max_concurrency": None,
    "automations": 1,
    "open_runs": {"running": 2, "blocked": 1},
    "open_dead_letters": 1,
}
_AUTOMATION = {
    "name": "finance.cashflow_report",
    "department": "finance",
    "title": "Cash-flow report",
    "description": "Read a bank statement and write a cash-flow report.",
    "declared": True,
    "version": 1,
}

#: By the name of the form.
BY_FORM: dict[str, Any] = {
    "AutomationDetail": _AUTOMATION
    | {
        "input_schema": {
            "type": "object",
            "properties": {"title": {"type": "string", "default": "Cash-flow report"}},
        },
        "graph": {
            "nodes": [
                {"key": "read", "step": "finance.read_ledger", "mapped": False, "after": []},
                {"key": "months", "step": "finance.month", "mapped": True, "after": ["read"]},
            ],
            "output": "months",
            "on_dead": "block",
        },
        "versions": [
            {
                "version": 1,
                "checksum": "5ddf38663300193a8f2c539ed7774caf576620a6f504bc3fbcce2dc847cd22b5",
                "created_at": "2026-11-30T08:00:00+00:00",
            }
        ],
    },
    "AutomationList": {"results": [_AUTOMATION], "next": None},
    "DepartmentEntry": _DEPARTMENT,
    "DepartmentList": {"results": [_DEPARTMENT], "next": None},
}
