"""`manage.py schedules`: what starts by itself, when it does next, and adding and stopping it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.core.management.base import CommandError

from departments import schedule_rules, schedules, selectors
from departments.representations import ScheduleEntry
from engine import registry
from engine.management import inputs
from engine.management.interface import OperatorCommand, actor

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from departments.models import Schedule

#: Fire times `next` shows at most, of each schedule.
MAX_SHOWN = 1000


class Command(OperatorCommand):
    help = "List, add, enable, disable and remove schedules; show when they fire next."
    subcommands: ClassVar[dict[str, str]] = {
        "list": "list schedules with their next and last fire time",
        "add": "start an automation by cron, from now on",
        "enable": "let schedules fire again, from now on",
        "disable": "let schedules not fire until they are enabled",
        "remove": "delete schedules; the runs they started stay",
        "next": "show when schedules fire next, by the clocks of their zone",
    }

    def adding_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("name", metavar="NAME", help="letters, digits, hyphens, underscores")
        parser.add_argument("automation", metavar="AUTOMATION")
        parser.add_argument("--cron", required=True, help='e.g. "30 7 * * MON-FRI"')
        parser.add_argument("--time-zone", default="UTC", help="e.g. Europe/Berlin (default UTC)")
        parser.add_argument(
            "--catch-up",
            choices=schedule_rules.CATCH_UPS,
            default="latest",
            help="what becomes of fire times that were missed (default latest)",
        )
        parser.add_argument(
            "--catch-up-limit", type=int, default=100, help="most made up for, with `all`"
        )
        parser.add_argument("--disabled", action="store_true", help="add it without enabling it")
        inputs.add_arguments(parser)

    def names_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("name", nargs="+", metavar="NAME")

    enable_arguments = disable_arguments = names_arguments

    def remove_arguments(self, parser: argparse.ArgumentParser) -> None:
        self.names_arguments(parser)
        parser.add_argument("--apply", action="store_true", help="do it; else only say so")

    def next_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("name", nargs="*", metavar="NAME", help="all of them without a name")
        parser.add_argument("--count", type=int, default=5, help="how many of each (default 5)")

    def do_list(self, **_options: Any) -> None:
        self._write(selectors.schedules())

    def do_add(self, **options: Any) -> None:
        by = actor()
        declared = registry.automation(options["automation"])
        schedule = schedules.create(
            name=options["name"],
            automation=declared.name,
            cron=options["cron"],
            time_zone=options["time_zone"],
            catch_up=options["catch_up"],
            catch_up_limit=options["catch_up_limit"],
            enabled=not options["disabled"],
            input=inputs.collect(
                declared, values=options["input"], files=options["file"], actor=by
            ),
            actor=by,
        )
        self._write([schedule])

    def do_enable(self, **options: Any) -> None:
        by = actor()
        self._write([schedules.enable(name=name, actor=by) for name in options["name"]])

    def do_disable(self, **options: Any) -> None:
        by = actor()
        self._write([schedules.disable(name=name, actor=by) for name in options["name"]])

    def do_remove(self, **options: Any) -> None:
        by = actor()
        found = self._chosen(options["name"])
        if options["apply"]:
            for schedule in found:
                schedules.remove(name=schedule.name, actor=by)
        self._write(found)
        if not self.json:
            done = "Removed" if options["apply"] else "Nothing is changed; add --apply to remove"
            self.stdout.write(f"{done} {len(found)}.")

    def do_next(self, **options: Any) -> None:
        number = options["count"]
        if not 1 <= number <= MAX_SHOWN:
            raise CommandError(f"--count must be between 1 and {MAX_SHOWN}.")
        found = self._chosen(options["name"]) if options["name"] else selectors.schedules()
        ahead = {row.name: selectors.fire_times_ahead(row, number=number) for row in found}
        if self.json:
            self.write_json({name: [at.isoformat() for at in ats] for name, ats in ahead.items()})
            return
        self.write_table(
            ["SCHEDULE", "FIRES AT", "ZONE"],
            [
                [row.name, f"{at:%Y-%m-%d %H:%M %a}", f"{row.time_zone} ({at:%z})"]
                for row in found
                for at in ahead[row.name]
            ],
        )

    def _chosen(self, names: Iterable[str]) -> list[Schedule]:
        return [selectors.schedule(name=name) for name in names]

    def _write(self, found: list[Schedule]) -> None:
        if self.json:
            self.write_json([ScheduleEntry.of(row).model_dump(mode="json") for row in found])
            return
        self.write_table(
            ["SCHEDULE", "AUTOMATION", "CRON", "ZONE", "NEXT (UTC)", "LAST (UTC)", "STATE"],
            [
                [
                    row.name,
                    row.automation_id,
                    row.cron,
                    row.time_zone,
                    f"{row.next_fire_at:%Y-%m-%d %H:%M}" if row.next_fire_at else "-",
                    f"{row.last_fire_at:%Y-%m-%d %H:%M}" if row.last_fire_at else "-",
                    _state(row),
                ]
                for row in found
            ],
        )


def _state(row: Schedule) -> str:
    if not row.enabled:
        return "disabled"
    return f"failing: {row.error}" if row.error else "enabled"
