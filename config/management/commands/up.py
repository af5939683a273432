"""`manage.py up`: the whole installation on one machine, from nothing to a report."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand

from config.stack import options, sequence

if TYPE_CHECKING:
    import argparse


class Command(BaseCommand):
    help = (
        "Start everything on this machine: database, Redis, web, manager, workers, Flower; "
        "make the sample report; Ctrl-C drains and stops it all."
    )
    # The stages come to what the checks look at, and say it in a line.
    requires_system_checks = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        options.declare(parser)

    def handle(self, *_args: Any, **chosen: Any) -> None:
        sys.exit(
            sequence.run(
                ports=options.Ports(shift=chosen["ports"]),
                workers=chosen["workers"],
                concurrency=chosen["concurrency"],
                once=chosen["once"],
                sample=not chosen["no_sample"],
                grace_seconds=chosen["grace"],
            )
        )
