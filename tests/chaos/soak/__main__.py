"""Run a soak: `python -m tests.chaos.soak --duration 60`. Exit 1 when anything is wrong."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from random import SystemRandom
from typing import NoReturn

from tests.chaos.soak import report
from tests.chaos.soak.soak import Soak, say

START_AND_JUDGE_SECONDS = 600


def main() -> int:
    """Parse, run, print, clear up."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    parser.add_argument("--duration", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=None, help="of load and faults; any by default")
    parser.add_argument("--rate", type=float, default=20.0, help="runs per second asked for")
    parser.add_argument("--open", type=int, default=300, help="most runs open at once")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    parser.add_argument("--keep", action="store_true", help="keep the folder in any case")
    options = parser.parse_args()
    seed = SystemRandom().randrange(10_000) if options.seed is None else options.seed
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGALRM, _end)
    signal.alarm(int(options.duration) + START_AND_JUDGE_SECONDS)
    folder = Path(tempfile.mkdtemp(prefix="abe-soak-"))
    say(f"soak of {options.duration:.0f} s, seed {seed}")
    soak = Soak(
        folder, duration=options.duration, seed=seed, rate=options.rate, most_open=options.open
    )
    good = False
    try:
        good = soak.run()
        print(report.markdown(soak)) if options.markdown else report.render(soak)
        if options.json:
            options.json.write_text(report.as_json(soak))
    finally:
        left = soak.end()
        if left:
            good = False
            print("  had to be ended by force:", *left, sep="\n    ")
        if good and not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"  logs: {folder}/up.log, {folder}/var/log; faults: {folder}/faults.jsonl")
    return 0 if good else 1


def _end(number: int, _frame: object) -> NoReturn:
    raise SystemExit(f"ended by {signal.Signals(number).name}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
