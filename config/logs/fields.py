"""Which fields of a log line are shown as they are.

An allow-list: a field that is not named here reaches the log by its name only, its value is hidden.
So a step that logs a customer's name, or a library that logs the arguments of a call, gives nothing
away. Installations add names of their own by `LOG_FIELDS`. `tests/architecture` compares this list
with every call of a logger in the code.
"""

from __future__ import annotations

#: What every line says of where it comes from, in the order in which a line shows it.
PLACE = (
    "timestamp",
    "level",
    "event",
    "logger",
    "process",
    "pid",
    "worker",
    "correlation_id",
    "trace_id",
    "span_id",
    "run_id",
    "step",
    "step_id",
    "attempt",
)

#: Names and numbers of things, never their content.
THINGS = frozenset(
    {
        "actor",
        "automation",
        "claim",
        "consumer",
        "dead_letter_id",
        "delivery",
        "department",
        "effect",
        "effect_id",
        "entry_id",
        "hook",
        "kid",
        "kind",
        "loop",
        "map_index",
        "name",
        "probe",
        "request_id",
        "schedule",
        "sign_in",
        "stream",
        "subject",
        "task_id",
        "user",
        "webhook",
    }
)

#: How something went: codes, counts, durations, states.
OUTCOMES = frozenset(
    {
        "away_seconds",
        "by",
        "bytes",
        "catch_up",
        "children_ended",
        "code",
        "count",
        "crashes",
        "created",
        "delay_seconds",
        "dependency",
        "doing",
        "done",
        "duration_ms",
        "epoch",
        "error",
        "error_code",
        "exception",
        "given",
        "items",
        "keys",
        "lasted_seconds",
        "left_behind",
        "lost",
        "method",
        "pages",
        "paused_seconds",
        "port",
        "position",
        "queue",
        "reason",
        "recorded",
        "remedy",
        "response_code",
        "retry_in_seconds",
        "role",
        "route",
        "rows",
        "seconds",
        "sent_again",
        "signal",
        "signed",
        "signs",
        "silent_seconds",
        "since",
        "stack",
        "starting",
        "state",
        "status_code",
        "tokens",
        "total",
        "verb",
        "waiting_steps",
    }
)

SHOWN = frozenset(PLACE) | THINGS | OUTCOMES
