"""`manage.py check_invariants`: whether what is promised holds in this database, now."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError

from engine.invariants import surveys, verification
from engine.management.interface import Interface

if TYPE_CHECKING:
    import argparse

    from engine.invariants.verification import Report

HELP = (
    "Verify the invariants I1 to I12 of the durability contract on the live database: read-only, in"
    " one snapshot, in bounded time. Exit code 1 when one is broken, with the rows that break it."
)


class Command(Interface):
    help = f"{HELP} Not judged here: " + " ".join(
        f"{name}: {why}" for name, why in verification.NOT_JUDGED.items()
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.add_argument(
            "--limit", type=int, default=verification.LIMIT, help="most rows shown per check"
        )
        parser.add_argument(
            "--timeout",
            type=float,
            default=verification.TIMEOUT_SECONDS,
            help="most seconds it may take in all",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        if options["limit"] < 1 or options["timeout"] <= 0:
            raise CommandError("--limit must be 1 or more, --timeout above 0.")
        report = verification.verify(limit=options["limit"], timeout_seconds=options["timeout"])
        if options["json"]:
            self.write_json(_document(report))
        else:
            self._write(report)
        if not report.clean:
            sys.exit(1)

    def _write(self, report: Report) -> None:
        if report.violations:
            self.write_table(
                ["INVARIANT", "CHECK", "RUN", "STEP", "WHAT", "REMEDY"],
                [
                    [
                        found.check.invariant,
                        found.check.name,
                        str(found.run_id or ""),
                        str(found.step_run_id or ""),
                        found.what,
                        found.check.remedy,
                    ]
                    for found in report.violations
                ],
            )
        for name, why in verification.NOT_JUDGED.items():
            self.stdout.write(f"{name} is not judged from a snapshot. {why}")
        for name, limit in verification.LIMITS.items():
            self.stdout.write(f"{name}: {limit}")
        broken = sum(report.totals.values())
        verdict = f"{broken} broken" if broken else "clean"
        self.stdout.write(
            f"{verdict}: {len(surveys.checks())} checks over {report.runs:,} runs and"
            f" {report.steps:,} steps in {report.seconds:.1f} s"
        )


def _document(report: Report) -> dict[str, Any]:
    return {
        "clean": report.clean,
        "runs": report.runs,
        "steps": report.steps,
        "seconds": round(report.seconds, 3),
        "checks": [
            {
                "name": check.name,
                "invariant": check.invariant,
                "broken": report.totals.get(check.name, 0),
            }
            for check in surveys.checks()
        ],
        "violations": [
            {
                "invariant": found.check.invariant,
                "check": found.check.name,
                "run_id": str(found.run_id) if found.run_id else None,
                "step_run_id": found.step_run_id,
                "what": found.what,
                "remedy": found.check.remedy,
            }
            for found in report.violations
        ],
        "not_judged": verification.NOT_JUDGED,
        "limits": verification.LIMITS,
    }
