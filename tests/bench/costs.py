"""What a step of the platform costs: commits, Redis commands, processor time, kinds of updates.

A backend of PostgreSQL hands its counts over at the end of its first transaction more than a second
after it did so last. So before each look everybody gets something to do (`_prod`); what that costs
is measured by itself and taken off, as is what the platform does when idle.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.bench import usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.installation import Installation
    from tests.bench.sizes import Sizes

HAND_OVER_SECONDS = 1.1
#: Enough for every child of the worker and of the orchestrator to get one.
PROD_LATENCIES, PROD_FANS, PROD_ITEMS = 10, 4, 4
TABLES = ("engine_steprun", "engine_run", "engine_lease")
#: What the drivers and the bench itself say to Redis.
OWN_COMMANDS = frozenset({"blpop", "lpop", "info", "auth", "select", "client", "hello"})


@dataclass(kw_only=True)
class Account:
    """What something has cost; times are processor seconds."""

    seconds: float = 0.0
    #: Over which `cpu` was counted.
    cpu_seconds: float = 0.0
    steps: int = 0
    commits: float = 0.0
    commands: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    updates: dict[str, float] = field(default_factory=dict)
    hot_updates: dict[str, float] = field(default_factory=dict)

    def less(self, other: Account, *, times: float = 1.0) -> Account:
        """Return this account without what the other one, so many times, accounts for."""
        return Account(
            seconds=self.seconds,
            cpu_seconds=self.cpu_seconds,
            steps=self.steps,
            commits=self.commits - other.commits * times,
            **{
                name: {
                    key: value - getattr(other, name).get(key, 0.0) * times
                    for key, value in getattr(self, name).items()
                }
                for name in ("commands", "cpu", "updates", "hot_updates")
            },
        )

    def per_step(self) -> dict[str, Any]:
        """Return the figures of the table: per step, and the share of HOT updates by table."""
        return {
            "steps": self.steps,
            "commits": self.commits / self.steps,
            "commands": sum(self.commands.values()) / self.steps,
            "commands_by_name": {
                name: round(value / self.steps, 3)
                for name, value in sorted(self.commands.items(), key=lambda item: -item[1])
                if value / self.steps >= 0.001
            },
            "cpu_ms": {kind: 1000 * value / self.steps for kind, value in self.cpu.items()},
            "hot_share": {
                # What the prods did is taken off as an average: less than a row is none.
                table: max(0.0, self.hot_updates[table]) / number if number >= 1 else None
                for table, number in self.updates.items()
            },
        }


def net(work: Account, *, prods: Account, idle: Account) -> Account:
    """Return what a workload has cost by itself: without prods, without what happens anyway."""
    found = work.less(prods).less(idle, times=(work.seconds - prods.seconds) / idle.seconds)
    share = work.cpu_seconds / idle.cpu_seconds
    found.cpu = {kind: value - idle.cpu[kind] * share for kind, value in work.cpu.items()}
    return found


class Accountant:
    """Account for workloads of the platform."""

    def __init__(self, installation: Installation, sizes: Sizes) -> None:
        self._installation = installation
        self._sizes = sizes
        self._tops = usage.roots(installation)
        self._database = installation.connect()
        self._redis = installation.stack.redis()

    def account(self) -> dict[str, Any]:
        """Return the costs per step of each workload, and the platform's when it is idle."""
        sizes = self._sizes
        prods = self._counted(Account)
        resting = self._counted(lambda: self._rest(sizes.idle_seconds))
        idle = resting.less(prods)
        idle.seconds = resting.seconds - prods.seconds
        # Without the prods in it, the processor's time needs nothing taken off.
        idle.cpu, idle.cpu_seconds = resting.cpu, resting.cpu_seconds
        works = {
            "W1": lambda: self._times(sizes.cost_chains, "chain", steps=40),
            "W2": lambda: self._times(1, "fan", count=sizes.fan),
            "W3": lambda: self._times(1, "burst", runs=sizes.burst, steps=3),
            "W4": lambda: self._times(1, "latency", samples=sizes.cost_latencies),
        }
        found = {
            name: net(self._counted(work), prods=prods, idle=idle).per_step()
            for name, work in works.items()
        }
        per_second = {
            "commits": idle.commits / idle.seconds,
            "commands": sum(idle.commands.values()) / idle.seconds,
            "cpu_ms": {kind: 1000 * value / idle.cpu_seconds for kind, value in idle.cpu.items()},
        }
        return {"per_step": found, "idle_per_second": per_second}

    def memory(self) -> list[tuple[str, usage.Memory]]:
        """Return the memory of each process."""
        return usage.memory(self._tops)

    def _times(self, number: int, do: str, **values: Any) -> Account:
        """Do something so often; return the steps of it, and what timing it has cost."""
        own = Counter()
        steps = 0
        for _ in range(number):
            answer = self._installation.drive("ours", do, **values)
            steps += answer["steps"]
            own.update(answer["own"])
        return Account(
            steps=steps,
            commits=own["questions"],
            commands={"llen": own["looks"] + 1.0 * number, "rpush": own["reports"]},
        )

    def _rest(self, seconds: float) -> Account:
        time.sleep(seconds)
        return Account()

    def _counted(self, work: Callable[[], Account]) -> Account:
        """Do something and return what was used meanwhile, with the prod after it.

        What `work` says that the timing itself has cost is taken off.
        """
        self._prod()
        before = self._look()
        own = work()
        cpu = usage.by_kind(self._tops)
        cpu_seconds = time.monotonic() - before.seconds
        self._prod()
        after = self._look()
        found = after.less(before).less(own)
        found.seconds = after.seconds - before.seconds
        found.steps = own.steps
        # The processor's time is counted at once: without the prod.
        found.cpu = {kind: cpu[kind] - before.cpu[kind] for kind in before.cpu}
        found.cpu_seconds = cpu_seconds
        return found

    def _prod(self) -> None:
        time.sleep(HAND_OVER_SECONDS)
        self._times(1, "latency", samples=PROD_LATENCIES)
        self._times(PROD_FANS, "fan", count=PROD_ITEMS)

    def _look(self) -> Account:
        """Return all counters as they stand; `seconds` is the time of the look."""
        commits = self._asked(
            "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
        )
        tables = self._database.execute(
            "SELECT relname, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables"
            " WHERE relname = ANY(%s)",
            [list(TABLES)],
        ).fetchall()
        calls = {
            name.removeprefix("cmdstat_").lower(): float(said["calls"])
            for name, said in self._redis.info("commandstats").items()
        }
        return Account(
            seconds=time.monotonic(),
            commits=float(commits),
            commands={name: n for name, n in calls.items() if name not in OWN_COMMANDS},
            cpu=usage.by_kind(self._tops),
            updates={name: float(number) for name, number, _ in tables},
            hot_updates={name: float(hot) for name, _, hot in tables},
        )

    def _asked(self, statement: str) -> Any:
        found = self._database.execute(statement).fetchone()
        return found[0] if found else None
