"""What the operators' commands share: one clear line instead of a traceback, text or JSON out."""

from __future__ import annotations

import argparse
import getpass
import json
import logging
import os
import sys
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

import psycopg
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, OperationalError, ProgrammingError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from engine import printable
from engine.audit import origin
from engine.errors import EngineError, InputInvalidError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

#: Exit code of a process ended by Ctrl-C.
INTERRUPTED = 130
#: Largest id of a bigint column.
BIGINT_MAX = 2**63 - 1
#: Width when nobody looks: wide enough that no id is folded in a pipe.
PIPE_COLUMNS = 400


def actor() -> str:
    """Return who gives the command, as it stands in the history of a run."""
    try:
        return f"command:{getpass.getuser()}"
    except (KeyError, OSError):
        return f"command:uid-{os.getuid()}"


def acting() -> AbstractContextManager[None]:
    """Return what a command acts within, so that the audit trail knows who gives it."""
    return origin.of(origin.Origin(source="command", actor=actor()))


def run_id(text: str) -> UUID:
    """Parse the id of a run (an argparse type)."""
    try:
        return UUID(text)
    except ValueError:
        raise CommandError(f"{text!r} is not the id of a run; `runs list` shows them.") from None


def row_id(text: str) -> int:
    """Parse the number of a row (an argparse type)."""
    if text.isascii() and text.isdigit() and 0 < int(text) <= BIGINT_MAX:
        return int(text)
    raise CommandError(f"{text!r} is not a number of a row; the `list` shows them.")


class Interface(BaseCommand):
    """A command that says what is wrong in one line, and writes text, tables or JSON."""

    def run_from_argv(self, argv: list[str]) -> None:
        """Report what an argument's type refuses as one line too; log beside the output."""
        for handler in logging.getLogger().handlers:
            # Whoever reads the output (`TOKEN=$(… mint_jwt …)`) must not read log lines.
            if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stdout:
                handler.setStream(sys.stderr)
        try:
            super().run_from_argv(argv)
        except CommandError as exc:
            self.stderr.write(f"CommandError: {printable.lines(str(exc))}")
            sys.exit(1)

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Translate what the domain and the database refuse into one line and exit code 1."""
        try:
            with acting():
                return super().execute(*args, **options)
        except InputInvalidError as exc:
            raise CommandError(_problems(exc)) from exc
        except EngineError as exc:
            raise CommandError(exc.message) from exc
        except (ProgrammingError, psycopg.ProgrammingError) as exc:
            raise CommandError(
                "The database lacks tables of this version; run: python manage.py migrate"
            ) from exc
        except (OperationalError, psycopg.OperationalError) as exc:
            first = str(exc).strip().splitlines()[0]
            raise CommandError(f"The database does not answer: {first}") from exc
        except (DatabaseError, psycopg.Error) as exc:
            raise CommandError(f"The database refused: {str(exc).splitlines()[0]}") from exc
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            # `runs list | head`: the reader has seen enough. Keep the interpreter's exit quiet.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)

    def console(self) -> Console:
        """Return a console that writes where the command writes; colour only on a terminal."""
        terminal = self.stdout.isatty()
        return Console(
            file=self.stdout,  # type: ignore[arg-type] # Django's wrapper writes as a file does
            highlight=False,
            width=None if terminal else PIPE_COLUMNS,
        )

    def write_table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print aligned columns; what others wrote into them moves nothing on a terminal."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(escape(printable.line(cell)) for cell in row))
        self.console().print(table)

    def write_json(self, value: Any) -> None:
        """Print one JSON document."""
        self.stdout.write(printable.document(json.dumps(value, indent=2, ensure_ascii=False)))


class OperatorCommand(Interface):
    """A command made of subcommands: `name` is run by the method `do_name`."""

    #: Subcommand -> what it does, for the help.
    subcommands: ClassVar[dict[str, str]] = {}
    json: bool = False

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the subcommands; each method `<name>_arguments` adds its own arguments."""
        parser.add_argument("--json", action="store_true", help="print JSON")
        below = parser.add_subparsers(dest="subcommand", required=True, metavar="COMMAND")
        for name, text in self.subcommands.items():
            child = below.add_parser(name, help=text, description=text)
            # Also after the subcommand; SUPPRESS keeps its absence from undoing the one before.
            child.add_argument(
                "--json", action="store_true", default=argparse.SUPPRESS, help="print JSON"
            )
            # `add_arguments` is Django's: the arguments of `add` are its `adding_arguments`.
            method = "adding_arguments" if name == "add" else f"{name}_arguments"
            arguments: Callable[[argparse.ArgumentParser], None] | None
            arguments = getattr(self, method, None)
            if arguments is not None:
                arguments(child)

    def handle(self, *_args: Any, **options: Any) -> None:
        """Call the subcommand's method."""
        self.json = options["json"]
        getattr(self, f"do_{options['subcommand']}")(**options)


def _problems(exc: InputInvalidError) -> str:
    texts = [
        f"{problem['field']}: {problem['reason']}" if problem["field"] else problem["reason"]
        for problem in exc.problems
    ]
    return f"The input is not valid: {'; '.join(texts) or exc.message}"
