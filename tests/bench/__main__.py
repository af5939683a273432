"""Measure the platform beside plain Celery.

R is plain Celery, F plain Celery with a row that is updated at each step's start and end, ours the
platform as `manage.py up` ships it; on one PostgreSQL (fsync on) and one Redis, in alternating
order. Exit code 1 when a target is missed, 2 when the figures are void. See tests/bench/README.md.
`python -m tests.bench slow-disk`: the same with commits that take 2 ms longer. `… growth`: whether
the platform is as fast beside a million finished runs as beside a thousand.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from random import SystemRandom
from typing import NoReturn

from tests.acceptance.stack import ROOT
from tests.bench import growth, report, sizes, slow_disk, targets
from tests.bench.bench import Bench
from tests.bench.installation import Installation

MISSED, VOID = 1, 2
BEGAN = time.monotonic()


def main(words: list[str]) -> int:
    """Parse, measure, print, clear up."""
    if words[:1] == ["growth"]:
        return growth.main(words[1:])
    slow = words[:1] == ["slow-disk"]
    options = _parser().parse_args(words[1:] if slow else words)
    if slow:
        options.only = options.only or ",".join(slow_disk.SECTIONS)
        options.postgres += [f"{name}={value}" for name, value in slow_disk.SETTINGS.items()]
    amount = sizes.QUICK if options.quick else sizes.FULL
    if options.repetitions:
        amount = amount.repeated(options.repetitions)
    seed = SystemRandom().randrange(10_000) if options.seed is None else options.seed
    only = sizes.sections(options.only, quick=options.quick)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    folder = Path(tempfile.mkdtemp(prefix="abe-bench-"))
    print(f"  benchmark, seed {seed}: {', '.join(only)}", flush=True)
    installation = Installation(
        folder, postgres=dict(pair.split("=", 1) for pair in options.postgres)
    )
    left: list[str] = []
    whole = False
    try:
        _say("starting")
        installation.start()
        if slow:
            print(f"  {slow_disk.verify(installation)}", flush=True)
        facts = report.circumstances(installation)
        bench = Bench(installation, amount=amount, only=only, seed=seed, say=_say)
        found = bench.run()
        whole = True
    finally:
        _say("stopping")
        left = installation.stop()
        _say("")
        if whole and not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"  logs: {folder}")
    if left:
        print("  had to be ended by force:", *left, sep="\n    ")
    seconds = time.monotonic() - BEGAN
    data = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "seed": seed,
        "quick": options.quick,
        **facts,
        "sizes": vars(amount),
        **report.summary(found, bench.void),
    }
    file = options.json or ROOT / "var" / "bench" / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(data, indent=1) + "\n")
    print(report.markdown(found)) if options.markdown else report.render(found, bench.void)
    print(f"  {seconds:.0f} s; everything: {file}")
    if not all(verdict.kept for verdict in targets.verdicts(found.figures)):
        return MISSED
    return VOID if bench.void else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="smaller, below two minutes")
    parser.add_argument(
        "--only", default="", metavar="W1,W3", help=f"of {', '.join(sizes.SECTIONS)}"
    )
    parser.add_argument("--repetitions", type=int, default=0, metavar="N")
    parser.add_argument("--seed", type=int, default=None, help="of the order; any by default")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="instead of var/bench/<date>.json"
    )
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    parser.add_argument(
        "--postgres",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the server beside the shipped ones, e.g. commit_delay=2000",
    )
    parser.add_argument("--keep", action="store_true", help="keep the folder in any case")
    return parser


def _say(text: str) -> None:
    """Show what is being done: one line in a terminal, each in a log, with the second it began."""
    if sys.stdout.isatty():
        print(f"\r\033[K  {text}" if text else "\r\033[K", end="", flush=True)
    elif text:
        print(f"  {time.monotonic() - BEGAN:6.1f}  {text}", flush=True)


def _end(number: int, _frame: object) -> NoReturn:
    raise SystemExit(f"ended by {signal.Signals(number).name}")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
