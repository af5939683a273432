"""The options of `up`, read twice: before Django for the servers, by Django for the command."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from config import environment

if TYPE_CHECKING:
    import argparse

WEB_PORT = 8000
MANAGER_PORT = 8080
WORKER_METRICS_PORT = 8090
FLOWER_PORT = 5555
REDIS_PORT = 6379
LAST_PORT = 65535
LARGEST_SHIFT = LAST_PORT - WORKER_METRICS_PORT - 100
DEFAULT_GRACE_SECONDS = 30.0
#: What a process may take to end beyond its own grace before its supervisor ends it.
GRACE_MARGIN_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Where the processes listen."""

    shift: int = 0

    @property
    def web(self) -> int:
        """Return the port of API and admin."""
        return WEB_PORT + self.shift

    @property
    def manager(self) -> int:
        """Return the port of the manager's health and metrics."""
        return MANAGER_PORT + self.shift

    @property
    def flower(self) -> int:
        """Return the port of Flower."""
        return FLOWER_PORT + self.shift

    @property
    def redis(self) -> int:
        """Return the port the embedded Redis prefers."""
        return REDIS_PORT + self.shift

    def worker_metrics(self, instance: int) -> int:
        """Return the port of a worker's metrics; the first instance is 0."""
        return WORKER_METRICS_PORT + self.shift + instance


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the options of `up` to a parser."""
    parser.add_argument(
        "--ports", type=shift, default=0, metavar="+N", help="shift every port by N, e.g. +100"
    )
    parser.add_argument(
        "--workers", type=positive, default=1, metavar="N", help="worker processes (default 1)"
    )
    parser.add_argument(
        "--concurrency",
        type=positive,
        default=max(2, os.cpu_count() or 2),
        metavar="N",
        help="steps at once per worker (default: the number of processors, at least 2)",
    )
    parser.add_argument(
        "--once", action="store_true", help="stop after the sample report; exit 1 if it failed"
    )
    parser.add_argument("--no-sample", action="store_true", help="do not start the sample report")
    parser.add_argument(
        "--grace",
        type=seconds,
        default=environment.number("WORKER_GRACE_SECONDS", DEFAULT_GRACE_SECONDS),
        metavar="SECONDS",
        help="how long running steps may go on at the end (default WORKER_GRACE_SECONDS, else 30)",
    )


def shift(text: str) -> int:
    """Read `+100`; raise ValueError, which argparse turns into one line."""
    number = int(text)
    if not -REDIS_PORT < number <= LARGEST_SHIFT:
        raise ValueError(text)
    return number


def seconds(text: str) -> float:
    """Read a time above 0 that ends; workers take no other grace."""
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError(text)
    return number


def positive(text: str) -> int:
    """Read a whole number above 0."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number
