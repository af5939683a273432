"""`manage.py logs`: what the processes of this machine wrote, found again."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import CommandError

from config import logging as platform_logging
from config.logs import reading, redaction
from engine import printable
from engine.management.interface import Interface, run_id

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

#: Which files there are, and whether their lines are JSON of ours.
FILES = {"app": True, "manager": True, "redis": False}
LIMIT = 200
MEASURED = frozenset({"timestamp", "level", "event", "logger"})
#: What only lines of ours can be asked for.
OF_JSON = (
    "run",
    "step",
    "level",
    "correlation_id",
    "department",
    "process",
    "since",
    "until",
    "json",
)


class Command(Interface):
    help = (
        "Show the log of this machine's processes, over its rotated files: of a run, of a step,"
        " from a level on. Needs no server. On other machines look there; in containers the same"
        " lines go to stdout."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--run", type=run_id, metavar="ID", help="lines that name this run")
        parser.add_argument("--step", default="", help="of this step: its key or its number")
        parser.add_argument(
            "--level", default="", metavar="LEVEL", help="this level and worse: WARNING"
        )
        parser.add_argument("--correlation-id", default="", metavar="ID", help="of this request")
        parser.add_argument("--department", default="", metavar="SLUG")
        parser.add_argument(
            "--process", default="", metavar="NAME", help="written by: web, manager, worker1, …"
        )
        parser.add_argument("--grep", default="", metavar="TEXT", help="that contain this text")
        parser.add_argument("--since", metavar="WHEN", help="10m, 2h, 1d ago, or a time")
        parser.add_argument("--until", metavar="WHEN", help="the same")
        parser.add_argument(
            *("-n", "--limit"),
            type=int,
            help=f"the last so many lines ({LIMIT}; of a run all), 0 for all",
        )
        parser.add_argument("-f", "--follow", action="store_true", help="go on until Ctrl-C")
        parser.add_argument(
            "--file",
            choices=[*FILES],
            default="app",
            help="app.log has all of ours",
        )
        parser.add_argument("--json", action="store_true", help="print the lines as they are")

    def handle(self, **options: Any) -> None:
        path = Path(settings.VAR_DIR) / "log" / f"{options['file']}.log"
        wanted = self._filter(options)
        limit = options["limit"]
        if limit is None:
            limit = 0 if options["run"] else LIMIT
        if limit < 0:
            raise CommandError("--limit must be 0 or more.")
        is_json = FILES[options["file"]]
        if not is_json and (asked := [name for name in OF_JSON if options[name]]):
            raise CommandError(
                f"{path.name} is not ours and has no such fields: --{asked[0].replace('_', '-')}"
                " cannot be told there; --grep, --limit and --follow can."
            )
        show = self._human() if is_json and not options["json"] else printable.line
        reader = reading.Reader(path, wanted, is_json=is_json)
        try:
            if not path.exists() and not options["follow"]:
                raise CommandError(
                    f"There is no {path}: nothing has run here yet, or its folder cannot be written"
                    " (then the lines are on stdout: docker logs, kubectl logs, journalctl)."
                )
            self._write(reader, show, limit=limit, follow=options["follow"])
        except PermissionError as exc:
            raise CommandError(
                f"{exc.filename or path} may not be read by this user: ask as the one that the"
                " processes run as, or as a member of the file's group."
            ) from exc
        finally:
            reader.close()

    def _write(
        self, reader: reading.Reader, show: Callable[[str], str], *, limit: int, follow: bool
    ) -> None:
        found = reader.last(limit=limit)
        for raw in found:
            self.stdout.write(show(raw.decode(errors="replace")))
        if not follow:
            if not found:
                self.stderr.write(
                    f"No such line in {reader.path} and what was before it: what goes well says"
                    " little."
                )
            return
        self.stdout.flush()
        for raw in reader.follow():
            self.stdout.write(show(raw.decode(errors="replace")))
            self.stdout.flush()

    def _human(self) -> Callable[[str], str]:
        render = platform_logging.human_renderer(colors=self.stdout.isatty())

        def shown(raw: str) -> str:
            line = redaction.plain_text(None, "", reading.parsed(raw.encode()) or {})
            # The renderer measures them, whatever somebody else wrote there.
            line.update({name: str(line[name]) for name in MEASURED & line.keys()})
            # Who wrote it, once: a worker's name says its process.
            line.pop("pid", None)
            if "worker" in line:
                line.pop("process", None)
            return str(render(None, "", line))

        return shown

    @staticmethod
    def _filter(options: dict[str, Any]) -> reading.Filter:
        level = options["level"].upper()
        level = {"WARN": "WARNING", "FATAL": "CRITICAL"}.get(level, level)
        if level and level not in reading.LEVELS:
            raise CommandError(f"--level must be one of {', '.join(reading.LEVELS)}.")
        return reading.Filter(
            run_id=str(options["run"] or ""),
            text=options["grep"],
            level=level,
            step=options["step"],
            correlation_id=options["correlation_id"],
            department=options["department"],
            process=options["process"],
            since=_moment("--since", options["since"]),
            until=_moment("--until", options["until"]),
        )


def _moment(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return reading.moment(text, now=datetime.now(UTC))
    except ValueError:
        raise CommandError(
            f"{option} takes 10m, 2h or 1d (ago), or a time as 2026-11-30T08:00, not {text!r}."
        ) from None
