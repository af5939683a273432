from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from engine import tracing
from engine.postgresql import bounded
from orchestration import garbage, streams
from orchestration.manager import service

if TYPE_CHECKING:
    from argparse import ArgumentParser

#: Port of the first instance; the next ones count up.
FIRST_PORT = 8080


class Command(BaseCommand):
    help = (
        "Run a manager: reads automation.events, sends what is ready, minds timers, schedules, "
        "leases and lost messages. Run one or more; the others stand by."
    )
    # The catalog is checked by whoever declares it; a manager must start without it being perfect.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--instance", type=int, default=0, help="number of this manager, from 0"
        )
        parser.add_argument(
            "--port", type=int, help=f"port of /health and /metrics (default {FIRST_PORT}+instance)"
        )
        parser.add_argument("--address", default="127.0.0.1", help="address to listen on")

    def handle(self, **options: Any) -> None:
        bounded.bound_answers(settings.DATABASE_ANSWER_SECONDS)
        tracing.play("manager")
        port = FIRST_PORT + options["instance"] if options["port"] is None else options["port"]
        try:
            found = service.Service(
                instance=options["instance"], address=options["address"], port=port
            )
            garbage.pass_over_startup()
            found.run()
        except (streams.EvictionPolicyError, service.PortInUseError) as exc:
            raise CommandError(str(exc)) from exc
