"""What an invariant check is made of, and which there are.

A survey is one pass over the tables; its checks are conditions on the rows of that pass, so that
twenty questions about a step cost one scan. `departments` adds its own when it is ready: the engine
knows no schedule.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that must not be: true of a row of the survey means that it is broken."""

    name: str
    #: I1 to I12 of the durability contract.
    invariant: str
    #: SQL over the survey's tables; NULL counts as false.
    broken: str
    #: What is wrong, with the survey's facts in braces.
    says: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """One pass: where its rows come from, what is known of each, and what must not be."""

    name: str
    #: CTEs that stand before the SELECT, without WITH and without the last comma.
    before: str = ""
    #: FROM and, where needed, WHERE.
    source: str
    run_id: str = "NULL::uuid"
    step_run_id: str = "NULL::bigint"
    #: Name -> SQL, worked out for broken rows only.
    facts: dict[str, str]
    checks: tuple[Check, ...]
    #: Values for the statement beside the plans'.
    parameters: Callable[[], dict[str, Any]] = field(default=dict)

    @property
    def statement(self) -> str:
        """Return the query: one row per broken check and row, at most `limit` of each check."""
        conditions = ", ".join(
            f"CASE WHEN {check.broken} THEN '{check.name}' END" for check in self.checks
        )
        facts = ", ".join(f"'{name}', {sql}" for name, sql in self.facts.items())
        return f"""
            WITH {self.before + "," if self.before else ""}
            broken AS (
                SELECT array_remove(ARRAY[{conditions}]::text[], NULL) AS checks,
                    {self.run_id} AS run_id, {self.step_run_id} AS step_run_id,
                    jsonb_build_object({facts}) AS facts
                {self.source}),
            named AS (
                SELECT c.name, b.run_id, b.step_run_id, b.facts
                FROM broken b, unnest(b.checks) AS c(name) WHERE b.checks <> '{{}}'),
            counted AS (
                SELECT n.*, count(*) OVER (PARTITION BY n.name) AS total,
                    row_number() OVER (PARTITION BY n.name ORDER BY n.run_id, n.step_run_id) AS nth
                FROM named n)
            SELECT name, run_id, step_run_id, facts, total FROM counted
            WHERE nth <= %(limit)s ORDER BY name, nth
        """


#: Every survey by name, in the order in which they are made.
surveys: dict[str, Survey] = {}


def add(*found: Survey) -> None:
    """Register surveys; the same name again replaces the first."""
    for survey in found:
        surveys[survey.name] = survey


def checks() -> list[Check]:
    """Return every check, by invariant."""
    found = [check for survey in surveys.values() for check in survey.checks]
    return sorted(found, key=lambda check: (int(check.invariant[1:]), check.name))
