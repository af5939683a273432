"""`manage.py streams`: look into `automation.events` and its group, and help it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.management.base import CommandError

from engine import printable
from engine.audit import trail
from orchestration import holders, streams
from orchestration.management.interface import BrokerCommand

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

ENTRY = re.compile(r"\d{1,20}(-\d{1,20})?")
#: More than a century has no entry been idle, in seconds; also says no to `inf` and `nan`.
MOST_IDLE_SECONDS = 3.2e9


class Command(BrokerCommand):
    help = (
        "Look into automation.events and its group, and help it where the manager cannot. The"
        " manager takes over stuck entries and makes a lost group anew by itself."
    )
    requires_system_checks: list[str] = []
    subcommands: ClassVar[dict[str, str]] = {
        "info": "length, lag, groups, consumers; automation.dlq's length",
        "pending": "entries delivered and not acknowledged, oldest first",
        "claim": "give idle entries to a consumer; the manager reads them within seconds",
        "reset": "let the group read the stream again from an id, or forget a consumer",
    }

    def pending_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--consumer", help="of this consumer only")
        parser.add_argument("--idle", type=float, default=0.0, help="for so many seconds (0)")
        parser.add_argument("--limit", type=int, default=100, help="entries (100)")

    def claim_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("consumer", help="name of the consumer that takes over")
        parser.add_argument("id", nargs="*", metavar="ID", help="these entries; else all idle ones")
        parser.add_argument("--idle", type=float, default=60.0, help="for so many seconds (60)")
        parser.add_argument("--limit", type=int, default=100, help="entries (100)")
        parser.add_argument("--apply", action="store_true", help="do it, not a dry run")

    def reset_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--to", metavar="ID", help="read on behind this entry: 0 all again, $ none of these (0)"
        )
        parser.add_argument(
            "--consumer", help="forget this consumer; what it holds goes to another one first"
        )
        parser.add_argument("--apply", action="store_true", help="do it, not a dry run")

    def do_info(self, **_options: Any) -> None:
        found = [*holders.events(), holders.dead_letters()]
        if self.json:
            self.write_json(found)
            return
        for row in found:
            kind = next(iter(row))
            self.stdout.write(("" if kind == "stream" else "  ") + _line(row))

    def do_pending(self, **options: Any) -> None:
        _check_bounds(options)
        found = holders.pending(
            consumer=options["consumer"], idle=options["idle"], limit=options["limit"]
        )
        self._write(found, "Nothing is pending.")

    def do_claim(self, **options: Any) -> None:
        _check_bounds(options)
        wanted, heir = {_entry_id(given) for given in options["id"]}, options["consumer"]
        idle = [
            entry
            for entry in holders.pending(
                idle=options["idle"], limit=holders.MOST_COUNTED if wanted else options["limit"]
            )
            if entry["consumer"] != heir and (not wanted or entry["id"] in wanted)
        ]
        if missing := wanted - {entry["id"] for entry in idle}:
            raise CommandError(
                f"Not pending for {options['idle']:g} s at another consumer:"
                f" {', '.join(sorted(missing))}; `streams pending` shows what is (--idle 0)."
            )
        if options["apply"] and idle:
            _record("stream.claim", {"consumer": heir, "entries": len(idle)})
            holders.give(heir, [entry["id"] for entry in idle])
        summary = {"entries": len(idle), "claimed": bool(options["apply"] and idle), "by": heir}
        if self.json:
            self.write_json([*idle, summary])
            return
        self._write(idle, "Nothing is to be claimed.")
        if idle:
            self._say(f"give {len(idle)} to {heir}", f"{len(idle)} given to {heir}", options)

    def do_reset(self, **options: Any) -> None:
        if options["consumer"] is not None:
            self._forget(options["consumer"], options)
            if options["to"] is None:
                return
        to = "0" if options["to"] is None else options["to"]
        if to != "$":
            _entry_id(to)
        before, again = holders.last_delivered(), holders.after(to)
        if options["apply"]:
            _record("stream.reset", {"to": to})
            streams.ensure_group()
            streams.client().xgroup_setid(streams.EVENTS, streams.GROUP, to)
        if self.json:
            self.write_json(
                {"group": streams.GROUP, "to": to, "before": before, "entries": again}
                | {"applied": options["apply"]}
            )
            return
        many = f"{again:,}" if again < holders.MOST_COUNTED else f"{again:,} or more"
        self._say(
            f"set {streams.GROUP} from {before} to {to}: {many} entries would be read",
            f"{streams.GROUP} set from {before} to {to}: {many} entries are read",
            options,
        )

    def _forget(self, consumer: str, options: dict[str, Any]) -> None:
        """Remove a consumer; its entries first get another holder, or they would be lost."""
        names = [found["consumer"] for found in holders.consumers()]
        if consumer not in names:
            raise CommandError(
                f"{consumer!r} is no consumer of {streams.GROUP};"
                f" there are: {', '.join(names) or 'none'}."
            )
        held = holders.pending(consumer=consumer, limit=holders.MOST_COUNTED)
        heir = next((name for name in names if name != consumer), None)
        if held and heir is None:
            raise CommandError(
                f"{consumer} holds {len(held)} entries and there is no other consumer to have"
                " them: start a manager first (python manage.py manager)."
            )
        if options["apply"]:
            after = {"consumer": consumer, "entries": len(held)}
            _record("stream.forget_consumer", after)
            if held:
                holders.give(str(heir), [entry["id"] for entry in held])
            if holders.pending(consumer=consumer, limit=1):
                raise CommandError(f"{consumer} still holds entries: is it at work? Try again.")
            streams.client().xgroup_delconsumer(streams.EVENTS, streams.GROUP, consumer)
        if self.json and options["to"] is None:
            done = {"consumer": consumer, "entries": len(held), "to": heir if held else None}
            self.write_json(done | {"applied": options["apply"]})
        elif not self.json:
            given = f", its {len(held)} entries given to {heir}" if held else ""
            self._say(f"forget {consumer}{given}", f"{consumer} is forgotten{given}", options)

    def _write(self, rows: Sequence[dict[str, Any]], nothing: str) -> None:
        if self.json:
            self.write_json(rows)
            return
        for row in rows:
            self.stdout.write(_line(row))
        if not rows:
            self.stdout.write(nothing)

    def _say(self, would: str, did: str, options: dict[str, Any]) -> None:
        if options["apply"]:
            self.stdout.write(f"{did[0].upper()}{did[1:]}.")
        else:
            self.stdout.write(f"Would {would}. Nothing is changed; add --apply.")


def _line(row: dict[str, Any]) -> str:
    said = (f"{name.replace('_', ' ')} {value}" for name, value in row.items())
    return printable.line(", ".join(said))


def _record(action: str, after: dict[str, Any]) -> None:
    # Before, because Redis knows nothing of our transaction: never done and not recorded.
    trail.record(action, kind="stream", id=streams.EVENTS, after=after)


def _entry_id(text: str) -> str:
    if not ENTRY.fullmatch(text):
        raise CommandError(f"{text!r} is not the id of an entry, as 1764489600000-0.")
    return text


def _check_bounds(options: dict[str, Any]) -> None:
    if options["limit"] < 1 or not 0 <= options["idle"] <= MOST_IDLE_SECONDS:
        raise CommandError("--limit must be 1 or more, --idle 0 or more, in seconds.")
