"""The stages of `up`: database, catalog, operator, processes, report; then the log, to the end."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from django.core.management import call_command
from django.db import DatabaseError, connections
from django.db.migrations.executor import MigrationExecutor

from config.embedded import provision
from config.embedded.errors import EmbeddedError
from config.stack import accounts, options, sample, screen, services, startup, supervisor
from departments import selectors as departments
from departments import sync
from engine.errors import EngineError
from orchestration import streams

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from config.stack.children import Service
    from config.stack.options import Ports

READY_SECONDS = 60.0
#: A process that dies this often before it ever answered will not get better by itself.
STARTS_BEFORE_GIVING_UP = 3
SHOWN_LINES = 25
FAILED = 1
TICK_SECONDS = 0.1
LISTENING = frozenset({"web", "manager", "flower"})


class Stage:
    """What a stage wants said about it when it is done."""

    note = ""


class StageError(Exception):
    """Say in a line why a stage failed; shown by the stage it leaves."""


class Stopped(Exception):  # noqa: N818 - not an error: somebody asked for the end
    """Leave the start because a signal asked for the end."""


def run(
    *, ports: Ports, workers: int, concurrency: int, once: bool, sample: bool, grace_seconds: float
) -> int:
    """Go through all stages and supervise until the end; return the exit code."""
    show = screen.MAIN
    try:
        password = prepare_data()
    except StageError:
        return FAILED
    team = services.all_of(
        ports=ports,
        queues=departments.queues(),
        workers=workers,
        concurrency=concurrency,
        flower_login=accounts.flower_login(),
        grace_seconds=grace_seconds,
    )
    show.widen([service.name for service in team])
    startup.remember_ports(ports)
    boss = supervisor.Supervisor(
        say=show.say,
        record=startup.record(),
        log_dir=provision.rooms().log_dir,
        grace_seconds=grace_seconds + options.GRACE_MARGIN_SECONDS,
        keep_open=provision.descriptors(),
        look_after=_look_after_servers,
    )
    failed = False
    try:
        report = _begin(boss=boss, team=team, want_sample=sample)
        failed = once and report is not None and not report.succeeded
        if not failed:
            _summarise(ports=ports, password=password, report=report)
        if not once:
            show.open_log()
            boss.run()
    except StageError:
        failed = True
    except Stopped:
        failed = once
    finally:
        _end(boss, once=once, failed=failed)
    if once or failed:
        return FAILED if failed else os.EX_OK
    return supervisor.exit_code(boss.asked_to_stop)


def prepare_data() -> str | None:
    """Bring database and catalog up to date; return the operator's password if one was made."""
    with _stage("Redis", quiet=True):
        streams.check_policy()
    with _stage("Database") as stage:
        stage.note = _migrate()
    with _stage("Catalog") as stage:
        report = sync.sync_catalog()
        counted = [_count(report.departments, "department")]
        counted.append(_count(report.automations, "automation"))
        if report.new_versions:
            counted.append(f"{report.new_versions} new")
        stage.note = ", ".join(counted)
    with _stage("Operator", quiet=True):
        password = accounts.ensure_operator()
    call_command("collectstatic", interactive=False, verbosity=0)
    # Children must not share this connection, and it may be gone when they are up.
    connections.close_all()
    # Nor may they know how to sign in as the owner of the tables.
    os.environ.pop(provision.OWNER_VARIABLE, None)
    return password


def _migrate() -> str:
    executor = MigrationExecutor(connections["default"])
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if not plan:
        return "up to date"
    call_command("migrate", interactive=False, verbosity=0, stdout=StringIO())
    return f"{_count(len(plan), 'migration')} applied"


def _begin(
    *, boss: supervisor.Supervisor, team: list[Service], want_sample: bool
) -> sample.Report | None:
    report = None
    if want_sample:
        with _stage("Report", quiet=True):
            # Accepted is durable: the first worker that is there begins with it.
            run_id, continued = sample.begin()
    with _stage("Processes") as stage:
        # Flower asks the workers who they are when it starts: later, when they can answer.
        early = [service for service in team if service.name != "flower"]
        children = [boss.start(service) for service in early]
        stage.note = ", ".join(service.name for service in early)
    if want_sample:
        report = _follow(boss, run_id=run_id, continued=continued)
    children += [boss.start(service) for service in team if service not in early]
    # Workers have no port to knock at; the report shows whether they work.
    silent = [child for child in children if child.service.name in LISTENING]
    with _stage("Listening") as stage:
        stage.note = ", ".join(f"{child.service.name} {child.service.port}" for child in silent)
        deadline = time.monotonic() + READY_SECONDS
        while silent := [child for child in silent if not services.answers(child.service)]:
            _tick(boss)
            if time.monotonic() > deadline:
                names = ", ".join(child.service.name for child in silent)
                raise StageError(f"no answer from {names} after {READY_SECONDS:.0f} s")
    return report


def _follow(boss: supervisor.Supervisor, *, run_id: UUID, continued: bool) -> sample.Report:
    report = None
    try:
        with _stage("Report") as stage:
            report = sample.follow(
                run_id=run_id,
                continued=continued,
                console=screen.MAIN.console,
                tick=lambda: _tick(boss),
            )
            stage.note = f"{report.steps} steps" + (", continued after a kill" if continued else "")
            _refuse_failed(report)
    except StageError:
        # A report that failed has been said; everything stays up, the admin shows what was wrong.
        if report is None:
            raise
    return report


def _refuse_failed(report: sample.Report) -> None:
    if not report.succeeded:
        raise StageError(report.text)


def _tick(boss: supervisor.Supervisor) -> None:
    boss.tick(TICK_SECONDS)
    if boss.asked_to_stop:
        raise Stopped
    for child in boss.children:
        if child.restarts >= STARTS_BEFORE_GIVING_UP:
            raise StageError(_last_words(child.service.name))


def _last_words(name: str) -> str:
    lines = screen.MAIN.last_lines(name, limit=SHOWN_LINES)
    said = "\n".join(f"      {line}" for line in lines)
    return f"{name} does not start; it said:\n{said}"


def _summarise(*, ports: Ports, password: str | None, report: sample.Report | None) -> None:
    base = f"http://{services.HOST}:{ports.web}"
    rows = [
        ("Admin", f"{base}/admin/"),
        ("API", f"{base}/docs"),
        ("Flower", f"http://{services.HOST}:{ports.flower}"),
    ]
    if report is not None and report.files:
        first, *others = report.files
        rows.append(("Report", _short(first)))
        if others:
            rows.append(("", "beside it: " + ", ".join(path.name for path in others)))
    if password:
        rows.append(("Sign in", f"{accounts.OPERATOR}  {password}  (shown this once)"))
    else:
        rows.append(("Sign in", f"{accounts.OPERATOR}  (python manage.py changepassword operator)"))
    flower_file = provision.rooms().var_dir / "secrets" / "flower_password"
    rows.append(("", f"Flower: {accounts.OPERATOR}, password in {_short(flower_file)}"))
    seconds = time.monotonic() - screen.MAIN.began
    screen.MAIN.summary(title=f"ready in {seconds:.1f} s", rows=rows)


def _short(path: Path) -> str:
    """Return a path as a person in the checkout would type it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _end(boss: supervisor.Supervisor, *, once: bool, failed: bool) -> None:
    show = screen.MAIN
    if failed and once:
        show.open_log()
    elif once:
        show.drop_log()
    if boss.asked_to_stop:
        try:
            show.console.print(
                "\n  Stopping: running steps may finish; Ctrl-C again to end them now.\n"
            )
        except OSError:
            screen.survive_closed_terminal()
        show.open_log()
    connections.close_all()
    boss.stop()


def _look_after_servers() -> None:
    """Bring an embedded server back whose keeper was killed with it."""
    for name in provision.revive():
        screen.MAIN.say("up", f"{startup.TITLES[name]} was gone and has been started again")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@contextmanager
def _stage(title: str, *, quiet: bool = False) -> Iterator[Stage]:
    """Show a stage with the seconds it took; turn what people can mend into one line."""
    stage = Stage()
    began = time.monotonic()
    if not quiet:
        screen.MAIN.begin(title)
    try:
        yield stage
    except streams.AWAY as error:
        reason = f"Redis does not answer: {error}"
    except DatabaseError as error:
        reason = " ".join(str(error).split())
    except (StageError, EmbeddedError, EngineError, streams.EvictionPolicyError) as error:
        reason = getattr(error, "message", "") or str(error)
    else:
        if not quiet:
            screen.MAIN.done(title, seconds=time.monotonic() - began, note=stage.note)
        return
    screen.MAIN.failed(title, reason=reason)
    raise StageError(reason)
