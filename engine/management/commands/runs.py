"""`manage.py runs`: start, follow and steer runs."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.management.base import CommandError
from django.db import transaction
from rich.console import Console

from engine import dead_letters, printable, registry, run_selectors, runs, selectors, why
from engine.audit import trail
from engine.errors import InputInvalidError
from engine.management import inputs, watching
from engine.management.interface import INTERRUPTED, OperatorCommand, actor, run_id
from engine.representations import (
    ArtifactEntry,
    Cause,
    EventEntry,
    Progress,
    RunDetail,
    RunSummary,
    StepEntry,
    WhyEntry,
)
from engine.states import RunState

if TYPE_CHECKING:
    import argparse
    from uuid import UUID

    from engine.models import Run

#: Most steps and events `show` prints.
SHOWN_ROWS = 200


class Command(OperatorCommand):
    help = "Start, list, show, watch, cancel, pause, resume and retry runs."
    subcommands: ClassVar[dict[str, str]] = {
        "start": "start a run of an automation",
        "list": "list runs, newest first",
        "show": "show a run with its steps and files",
        "watch": "follow a run to its end; exit 0 only when it succeeds",
        "why": "say why the steps of a run that have not ended are where they are",
        "cancel": "cancel runs",
        "pause": "pause runs: what is being worked on ends, nothing new starts",
        "resume": "resume paused runs",
        "retry": "try the dead steps of runs again; what has succeeded is kept",
    }

    def start_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("automation", metavar="NAME", help="e.g. finance.cashflow_report")
        inputs.add_arguments(parser)
        parser.add_argument("--watch", action="store_true", help="follow the run to its end")
        parser.add_argument("--dedupe-key", help="start no second run of this key")
        counts = parser.add_mutually_exclusive_group()
        counts.add_argument(
            "--window", type=float, metavar="SECONDS", help="of the key: count no older run"
        )
        counts.add_argument(
            "--until-terminal", action="store_true", help="of the key: count no run that has ended"
        )
        parser.add_argument("--priority", type=int, default=0, help="higher goes first")
        parser.add_argument("--tag", action="append", default=[], help="may be repeated")
        parser.add_argument("--deadline", type=float, metavar="SECONDS", help="end it after this")

    def list_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--state", choices=[state.value for state in RunState])
        parser.add_argument("--department")
        parser.add_argument("--automation")
        parser.add_argument("--correlation-id")
        parser.add_argument("--error-code", help="of the run, not of its steps")
        parser.add_argument("--tag")
        parser.add_argument("--limit", type=int, default=20)
        parser.add_argument("--before", type=run_id, help="only runs older than this one")

    def show_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("run", type=run_id, metavar="RUN")
        parser.add_argument("--events", action="store_true", help="show its history too")

    def watch_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("run", type=run_id, metavar="RUN")

    why_arguments = watch_arguments

    def cancel_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("run", type=run_id, nargs="+", metavar="RUN")

    pause_arguments = resume_arguments = retry_arguments = cancel_arguments

    def do_start(self, **options: Any) -> None:
        declared = registry.automation(options["automation"])
        by = actor()
        given = inputs.collect(declared, values=options["input"], files=options["file"], actor=by)
        wait = options["deadline"]
        if wait is not None and not 0 < wait <= timedelta.max.total_seconds() / 1000:
            raise CommandError("--deadline must be a number of seconds above 0.")
        try:
            with transaction.atomic():
                submitted = runs.submit(
                    automation=declared.name,
                    input=given,
                    trigger="command",
                    created_by=by,
                    dedupe_key=options["dedupe_key"],
                    window=options["window"],
                    until_terminal=options["until_terminal"],
                    priority=options["priority"],
                    tags=options["tag"],
                    deadline_at=datetime.now(UTC) + timedelta(seconds=wait) if wait else None,
                )
                after = {"automation": declared.name, "created": submitted.created}
                trail.record("run.submit", kind="run", id=submitted.run_id, actor=by, after=after)
        except InputInvalidError as exc:
            raise CommandError(
                f"{exc.message}. Its input: {inputs.described(declared)}; give --input KEY=VALUE "
                "or --file KEY=PATH."
            ) from exc
        if options["watch"]:
            self._follow(submitted.run_id)
            return
        if self.json:
            self._write_run(submitted.run_id, created=submitted.created)
            return
        word = "Started run" if submitted.created else "Already there by its dedupe key: run"
        self.stdout.write(f"{word} {submitted.run_id}")

    def do_watch(self, **options: Any) -> None:
        self._follow(options["run"])

    def do_list(self, **options: Any) -> None:
        if options["limit"] < 1:
            raise CommandError("--limit must be 1 or more.")
        found = run_selectors.runs(
            limit=options["limit"],
            wanted=run_selectors.Wanted(
                state=options["state"],
                department=options["department"],
                automation=options["automation"],
                correlation_id=options["correlation_id"],
                error_code=options["error_code"],
                tag=options["tag"],
            ),
            before=options["before"],
        )
        if self.json:
            self.write_json([RunSummary.of(run).model_dump(mode="json") for run in found])
            return
        self.write_table(
            ["RUN", "AUTOMATION", "STATE", "CREATED", "TOOK", "BY"],
            [
                [
                    str(run.id),
                    run.automation,
                    run.state,
                    f"{run.created_at:%Y-%m-%d %H:%M:%S}",
                    _seconds(run),
                    run.created_by or run.trigger,
                ]
                for run in found
            ],
        )

    def do_show(self, **options: Any) -> None:
        identity: UUID = options["run"]
        run = selectors.run(run_id=identity)
        steps = selectors.steps(run_id=identity, limit=SHOWN_ROWS)
        files = selectors.artifacts(run_id=identity)[::-1]
        events = selectors.events(run_id=identity, limit=SHOWN_ROWS) if options["events"] else []
        if self.json:
            document = detail(run)
            document["steps"] = [StepEntry.of(row).model_dump(mode="json") for row in steps]
            document["artifacts"] = [ArtifactEntry.of(row).model_dump(mode="json") for row in files]
            if options["events"]:
                document["events"] = [EventEntry.of(row).model_dump(mode="json") for row in events]
            self.write_json(document)
            return
        progress = selectors.progress(run_id=identity)
        self.stdout.write(f"Run        {run.id}")
        self.stdout.write(f"Automation {run.automation} v{run.version.version}")
        self.stdout.write(f"State      {run.state}, {progress.done} of {progress.total} steps done")
        self.stdout.write(f"Created    {run.created_at:%Y-%m-%d %H:%M:%S} by {run.created_by}")
        if run.error_code:
            error = printable.line(f"{run.error_code}: {run.error_message}")
            self.stdout.write(f"Error      {error}")
        self.stdout.write("")
        self.write_table(
            ["STEP", "STATE", "ATTEMPT", "WORKER", "ERROR"],
            [[str(row), row.state, str(row.attempt), row.worker, row.error_code] for row in steps],
        )
        if files:
            self.stdout.write("")
            self.write_table(
                ["FILE", "BYTES", "TYPE", "ID"],
                [[row.name, str(row.size), row.media_type, str(row.id)] for row in files],
            )
        if events:
            self.stdout.write("")
            self.write_table(
                ["AT", "EVENT", "BY", "DETAIL"],
                [
                    [f"{row.at:%H:%M:%S.%f}"[:-3], row.kind, row.actor, _told(row.data)]
                    for row in events
                ],
            )

    def do_why(self, **options: Any) -> None:
        found = why.explain(run_id=options["run"])
        if self.json:
            run = Cause.of(found.run).model_dump(mode="json") if found.run else None
            steps = [WhyEntry.of(step).model_dump(mode="json") for step in found.steps]
            self.write_json({"run": run, "results": steps})
            return
        if found.run is None:
            state = selectors.run(run_id=options["run"]).state
            self.stdout.write(f"Every step has ended; the run is {state}.")
            return
        self.stdout.write(f"Run  {printable.line(found.run.text)}")
        self.stdout.write("")
        self.write_table(
            ["STEP", "STATE", "CAUSE", "WHY"],
            [[step.step, step.state, step.reason_code, step.text] for step in found.steps],
        )

    def do_cancel(self, **options: Any) -> None:
        self._steer(runs.cancel, options["run"])

    def do_pause(self, **options: Any) -> None:
        self._steer(runs.pause, options["run"])

    def do_resume(self, **options: Any) -> None:
        self._steer(runs.resume, options["run"])

    def do_retry(self, **options: Any) -> None:
        self._steer(dead_letters.retry_run, options["run"])

    def _steer(self, door: Any, identities: list[UUID]) -> None:
        by = actor()
        for identity in identities:
            door(run_id=identity, actor=by)
        found = [selectors.run(run_id=identity) for identity in identities]
        if self.json:
            self.write_json([RunSummary.of(run).model_dump(mode="json") for run in found])
            return
        for run in found:
            self.stdout.write(f"{run.id} {run.state}")

    def _follow(self, identity: UUID) -> None:
        # With --json the standard output is for the document alone.
        console = Console(stderr=True) if self.json else self.console()
        try:
            outcome = watching.follow(run_id=identity, console=console)
        except KeyboardInterrupt:
            self.stderr.write(f"The run goes on; to see it again: runs watch {identity}")
            sys.exit(INTERRUPTED)
        if self.json:
            self.write_json(detail(outcome.run))
        else:
            self.stdout.write(outcome.text)
            files = selectors.artifacts(run_id=identity)[::-1]
            for row in files:
                self.stdout.write(f"  {row.name}  {row.size:,} bytes  /artifacts/{row.id}")
        if not outcome.succeeded:
            sys.exit(1)

    def _write_run(self, identity: UUID, *, created: bool) -> None:
        self.write_json({**detail(selectors.run(run_id=identity)), "created": created})


def detail(run: Run) -> dict[str, Any]:
    """Return the JSON form of a run with input, progress and output."""
    return RunDetail.of(
        run,
        input=run.input,
        progress=Progress.of(selectors.progress(run_id=run.id)),
        output=selectors.output_of(run),
    ).model_dump(mode="json")


def _told(data: dict[str, Any]) -> str:
    """Return what an event's data says to people."""
    for name in ("message", "error_message", "reason"):
        if data.get(name):
            code = data.get("error_code")
            return f"{code}: {data[name]}" if code else str(data[name])
    return ""


def _seconds(run: Run) -> str:
    return "" if run.duration is None else f"{run.duration.total_seconds():.1f} s"
