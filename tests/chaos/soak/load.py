"""What is asked of the platform: a seeded mix of runs, each with what must come of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any

DEPARTMENTS = ("mill", "books")
WRITING = "books"
FAN_OUT = 500
#: Steps of the longest chain.
LINE = 12
#: The step whose output is the run's, by shape.
SINKS = {
    "single": "work",
    "chain": "work_3",
    "line": f"work_{LINE}",
    "strict": "work_2",
    "diamond": "meet",
    "fan": "total",
}
#: How many of each kind in a hand.
MIX = {
    "one step": 60,
    "chain": 50,
    "chain of twelve": 24,
    "diamond": 20,
    "fan-out": 16,
    "wide fan-out": 4,
    "fan-out of slow steps": 3,
    "fan-out with slow steps among quick ones": 3,
    f"fan-out of {FAN_OUT}": 1,
    "retried": 14,
    "dead letter, requeued": 6,
    "failed run, requeued": 4,
    "dead letter, discarded": 2,
    "poison": 3,
    "poison to death, requeued": 1,
    "cancelled": 8,
    "paused and resumed": 6,
    "longer than a lease": 2,
    "slow": 3,
}


@dataclass(slots=True, kw_only=True)
class Ticket:
    """One run that is asked for: by key, so that asking twice is asking once."""

    key: str
    kind: str
    automation: str
    input: dict[str, Any]
    #: What an operator does with it: cancel, pause, discard, or nothing.
    plan: str = ""
    door: str = ""
    #: What the database must call it; an event's key gets a prefix on its way.
    dedupe_key: str = ""
    run_id: str = ""
    asked_at: float = 0.0
    accepted_at: float = 0.0
    state: str = ""

    @property
    def ends(self) -> frozenset[str]:
        """Return the states in which this run may rest at the end."""
        ends = {"cancel": {"cancelled", "succeeded"}, "discard": {"failed", "succeeded"}}
        return frozenset(ends.get(self.plan, {"succeeded"}))

    @property
    def shape(self) -> str:
        """Return the automation's name within its department."""
        return self.automation.partition(".")[2]

    @property
    def expected(self) -> int:
        """Return what the run's last step must have returned."""
        return expected(self.shape, **self.input)


def grown(number: int) -> int:
    """Return what the step `work` makes of a number."""
    return number * 3 + 1


def expected(shape: str, *, number: int = 1, count: int = 3, **_others: Any) -> int:
    """Return the output of a run, worked out without the platform."""
    if shape == "fan":
        return sum(grown(item) for item in range(count))
    if shape == "diamond":
        return 2 * grown(grown(number))
    for _ in range({"single": 1, "strict": 2, "chain": 3, "line": LINE}[shape]):
        number = grown(number)
    return number


@dataclass
class Mix:
    """Deal tickets from shuffled hands, so that also a short soak meets every kind."""

    seed: int
    _random: Random = field(init=False)
    _hand: list[str] = field(init=False, default_factory=list)
    _numbers: count = field(init=False, default_factory=count)

    def __post_init__(self) -> None:
        self._random = Random(f"load {self.seed}")

    def deal(self) -> Ticket:
        """Return the next ticket."""
        if not self._hand:
            self._hand = [kind for kind, number in MIX.items() for _ in range(number)]
            self._random.shuffle(self._hand)
        kind = self._hand.pop()
        number = next(self._numbers)
        dice = self._random
        shape, plan, values = _shape(kind, dice)
        return Ticket(
            key=f"soak-{number}",
            kind=kind,
            automation=f"{dice.choice(DEPARTMENTS)}.{shape}",
            input={"number": number % 1000, **values},
            plan=plan,
        )


def _shape(kind: str, dice: Random) -> tuple[str, str, dict[str, Any]]:
    """Return automation, plan and input of a kind."""
    plain = {
        "one step": "single",
        "chain": "chain",
        "chain of twelve": "line",
        "diamond": "diamond",
    }
    if kind in plain:
        return plain[kind], "", {}
    sizes = {
        "fan-out": (2, 8),
        "wide fan-out": (20, 40),
        f"fan-out of {FAN_OUT}": (FAN_OUT, FAN_OUT),
    }
    if kind in sizes:
        return "fan", "", {"count": dice.randint(*sizes[kind])}
    if kind == "fan-out of slow steps":
        # More than a worker's slice of time in each message: the rest is handed back.
        return "fan", "", {"count": dice.randint(48, 64), "seconds": 0.06}
    if kind == "fan-out with slow steps among quick ones":
        # Long enough to be shown, while others of the same message wait.
        return "fan", "", {"count": dice.randint(96, 128), "seconds": 0.3, "every": 8}
    return {
        "retried": ("chain", "", {"trouble": "fail", "times": dice.randint(1, 2)}),
        "dead letter, requeued": ("chain", "", {"trouble": "dead", "times": dice.randint(1, 2)}),
        "failed run, requeued": ("strict", "", {"trouble": "dead", "times": 1}),
        "dead letter, discarded": ("chain", "discard", {"trouble": "dead", "times": 99}),
        "poison": ("chain", "", {"trouble": "poison", "times": 1}),
        "poison to death, requeued": ("chain", "", {"trouble": "poison", "times": 3}),
        "cancelled": ("chain", "cancel", {"seconds": round(dice.uniform(0.2, 2.0), 2)}),
        "paused and resumed": ("chain", "pause", {"seconds": round(dice.uniform(0.1, 0.6), 2)}),
        "longer than a lease": ("chain", "", {"seconds": round(dice.uniform(3.5, 6.0), 2)}),
        "slow": ("diamond", "", {"seconds": round(dice.uniform(0.2, 1.0), 2)}),
    }[kind]
