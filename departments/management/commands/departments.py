"""`manage.py departments`: what each is doing, and stopping and going on of its work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from departments import selectors, services
from departments.representations import DepartmentEntry
from engine.management.interface import OperatorCommand, actor

if TYPE_CHECKING:
    import argparse

    from departments.selectors import DepartmentStatus


class Command(OperatorCommand):
    help = "List, pause and resume departments."
    subcommands: ClassVar[dict[str, str]] = {
        "list": "list departments with their open work",
        "pause": "start nothing new of departments; what runs goes on to its end",
        "resume": "start work of departments again",
    }

    def pause_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("slug", nargs="+", metavar="DEPARTMENT")

    resume_arguments = pause_arguments

    def do_list(self, **_options: Any) -> None:
        self._write(selectors.departments())

    def do_pause(self, **options: Any) -> None:
        by = actor()
        self._write([services.pause(slug=slug, actor=by) for slug in options["slug"]])

    def do_resume(self, **options: Any) -> None:
        by = actor()
        self._write([services.resume(slug=slug, actor=by) for slug in options["slug"]])

    def _write(self, found: list[DepartmentStatus]) -> None:
        if self.json:
            self.write_json([DepartmentEntry.of(row).model_dump(mode="json") for row in found])
            return
        self.write_table(
            ["DEPARTMENT", "TITLE", "LANE", "AUTOMATIONS", "OPEN RUNS", "DEAD LETTERS"],
            [
                [
                    row.department.slug,
                    row.department.title,
                    _lane(row),
                    str(row.automations),
                    ", ".join(f"{n} {state}" for state, n in sorted(row.open_runs.items())) or "-",
                    str(row.open_dead_letters),
                ]
                for row in found
            ],
        )


def _lane(row: DepartmentStatus) -> str:
    if not row.department.declared:
        return "withdrawn"
    return "paused" if row.lane.paused else "open"
