"""What happens after a failure: pure decisions, no clock, no database."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from engine.errors import GraphInvalidError

if TYPE_CHECKING:
    from random import Random

#: A step that ends its worker this often becomes a dead letter (I8): a poison step must not loop.
MAX_CRASHES = 3
#: Pause before a step whose worker died runs again, times two for each further crash.
CRASH_DELAY_SECONDS = 0.5
DEFAULT_TIMEOUT_SECONDS = 300.0
#: Longest timeout a step may declare: a step that runs for longer than a year is a mistake.
MAX_TIMEOUT_SECONDS = 366 * 86_400.0
#: Where exponents stop mattering: keeps `factor ** n` finite whatever the author chose.
MAX_EXPONENT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Say how often and how patiently a step is tried.

    attempts: how often in all, first try included. The n-th retry waits
    `min(max_delay, first_delay * factor ** (n - 1))` seconds, spread by ± `jitter` (a fraction) so
    that steps which failed together do not come back together.
    """

    attempts: int = 3
    first_delay: float = 1.0
    factor: float = 2.0
    max_delay: float = 300.0
    jitter: float = 0.2

    def __post_init__(self) -> None:
        checks = {
            "attempts must be 1 or more": self.attempts >= 1,
            "first_delay must be 0 or more seconds": self.first_delay >= 0,
            "factor must be 1 or more": self.factor >= 1,
            "max_delay must not be below first_delay": self.max_delay >= self.first_delay,
            "jitter must be between 0 and 1": 0 <= self.jitter <= 1,
        }
        wrong = [text for text, holds in checks.items() if not holds]
        if wrong:
            raise GraphInvalidError(f"Retry: {'; '.join(wrong)}")

    def delay(self, *, failures: int, random: Random) -> float:
        """Return the seconds to wait after the `failures`-th failure."""
        exponent = float(min(max(failures - 1, 0), MAX_EXPONENT))
        plain: float = min(self.max_delay, self.first_delay * self.factor**exponent)
        return plain * (1 + self.jitter * random.uniform(-1, 1))  # spreads load # nosec B311


#: A worker with older code may receive a step that only newer code has; deploys take a while.
UNKNOWN_STEP = Retry(attempts=8, first_delay=2.0, factor=2.0, max_delay=60.0)
#: Planning a map: only the database can make it fail.
PLANNING = Retry(attempts=5, first_delay=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long an attempt of a step may take, how long it may be still, and what follows. Seconds.

    progress_within: None for a step that need not give signs of progress.
    """

    retry: Retry
    timeout: float = DEFAULT_TIMEOUT_SECONDS
    progress_within: float | None = None


class OnDead(StrEnum):
    """What a dead step does to its run: wait for an operator, or end it as failed."""

    BLOCK = "block"
    FAIL = "fail"


def crash_delay(*, crashes: int) -> float:
    """Return the seconds before a step whose worker died for the `crashes`-th time runs again."""
    return CRASH_DELAY_SECONDS * 2.0 ** min(max(crashes - 1, 0), MAX_EXPONENT)
