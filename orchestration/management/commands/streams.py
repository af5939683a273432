from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psycopg
import redis
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from engine.audit import trail
from engine.management.interface import acting
from orchestration import streams

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    help = "Look into automation.events and its group, and help it where the manager cannot."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        for name, text in {
            "info": "length, lag, consumers",
            "pending": "entries delivered and not acknowledged",
            "claim": "give idle entries to one consumer, which then reads them",
            "reset": "let the group read the stream again from an id (doubles do no harm)",
        }.items():
            action = actions.add_parser(name, help=text)
            action.add_argument("--json", action="store_true", help="machine output")
            if name in {"pending", "claim"}:
                action.add_argument("--limit", type=int, default=100, help="entries (100)")
            if name == "claim":
                action.add_argument("consumer", help="name of the consumer that takes over")
                action.add_argument("--idle", type=float, default=60.0, help="seconds (60)")
            if name == "reset":
                action.add_argument("--to", default="0", help="entry id; 0 first, $ last (0)")
            if name in {"claim", "reset"}:
                action.add_argument("--apply", action="store_true", help="do it, not a dry run")

    def handle(self, **options: Any) -> None:
        try:
            with acting():
                found = getattr(self, f"_{options['action']}")(options)
        except redis.ResponseError as exc:
            raise CommandError(f"Redis refused: {exc}") from exc
        except redis.RedisError as exc:
            raise CommandError(f"Redis is away: {exc}") from exc
        except (DatabaseError, psycopg.Error) as exc:
            first = str(exc).strip().splitlines()[0]
            raise CommandError(f"Nothing is done that cannot be recorded: {first}") from exc
        if options["json"]:
            self.stdout.write(json.dumps(found))
            return
        for line in found if isinstance(found, list) else [found]:
            self.stdout.write("  ".join(f"{name}={value}" for name, value in line.items()))

    @staticmethod
    def _info(_options: dict[str, Any]) -> list[dict[str, Any]]:
        try:
            status = streams.status()
            consumers: Any = streams.client().xinfo_consumers(streams.EVENTS, streams.GROUP)
        except redis.ResponseError:
            return [{"stream": streams.EVENTS, "group": "none yet: a manager makes it"}]
        return [
            {
                "stream": streams.EVENTS,
                "length": status.length,
                "group": streams.GROUP,
                "undelivered": status.undelivered,
                "pending": status.pending,
                "lag_seconds": round(status.lag_seconds, 1),
            },
            *(
                {
                    "consumer": found["name"].decode(),
                    "pending": found["pending"],
                    "idle_seconds": round(found["idle"] / 1000, 1),
                }
                for found in consumers
            ),
            {"stream": streams.DLQ, "length": streams.client().xlen(streams.DLQ)},
        ]

    @staticmethod
    def _pending(options: dict[str, Any]) -> list[dict[str, Any]]:
        found: Any = streams.client().xpending_range(
            streams.EVENTS, streams.GROUP, min="-", max="+", count=options["limit"]
        )
        return [
            {
                "id": entry["message_id"].decode(),
                "consumer": entry["consumer"].decode(),
                "idle_seconds": round(entry["time_since_delivered"] / 1000, 1),
                "deliveries": entry["times_delivered"],
            }
            for entry in found
        ]

    def _claim(self, options: dict[str, Any]) -> list[dict[str, Any]]:
        idle = [
            entry
            for entry in self._pending(options)
            if entry["idle_seconds"] >= options["idle"] and entry["consumer"] != options["consumer"]
        ]
        if options["apply"] and idle:
            # Before, because Redis knows nothing of our transaction: never done and not recorded.
            after = {"consumer": options["consumer"], "entries": len(idle)}
            trail.record("stream.claim", kind="stream", id=streams.EVENTS, after=after)
            streams.client().xclaim(
                streams.EVENTS,
                streams.GROUP,
                options["consumer"],
                min_idle_time=int(options["idle"] * 1000),
                message_ids=[entry["id"] for entry in idle],
            )
        return [
            *idle,
            {"entries": len(idle), "claimed": options["apply"], "by": options["consumer"]},
        ]

    @staticmethod
    def _reset(options: dict[str, Any]) -> dict[str, Any]:
        if options["apply"]:
            after = {"to": options["to"]}
            trail.record("stream.reset", kind="stream", id=streams.EVENTS, after=after)
            streams.ensure_group()
            streams.client().xgroup_setid(streams.EVENTS, streams.GROUP, options["to"])
        return {"group": streams.GROUP, "to": options["to"], "applied": options["apply"]}
