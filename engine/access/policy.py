"""What its holder may do, and in which departments: one pure object for API and admin alike.

A person's policy is that of the token they would be given: the two cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - dataclasses resolve annotations
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType

from engine.access import scopes

#: Policies kept by the scopes they were made of: a token comes with every request.
KEPT = 1024
PAYLOADS = "runs.payloads"


@dataclass(frozen=True, slots=True)
class Reach:
    """The departments in which a scope is held: every one, or those of the slugs."""

    everywhere: bool = False
    slugs: frozenset[str] = frozenset()

    def __contains__(self, department: str | None) -> bool:
        return self.everywhere or department in self.slugs

    def __bool__(self) -> bool:
        return self.everywhere or bool(self.slugs)

    @property
    def only(self) -> list[str] | None:
        """Return the slugs to filter rows by, sorted; None when nothing is to be left out."""
        return None if self.everywhere else sorted(self.slugs)


@dataclass(frozen=True, slots=True)
class Policy:
    """The scopes held in every department, and those held in some."""

    everywhere: frozenset[str] = frozenset()
    #: Slug → scopes held in that department.
    limited: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))

    def allows(self, scope: str, department: str | None = None) -> bool:
        """Tell whether the scope is held in the department; in every one, when none is named."""
        if scopes.allows(self.everywhere, scope):
            return True
        return department is not None and scopes.allows(self.limited.get(department, ()), scope)

    def departments(self, scope: str) -> Reach:
        """Return where the scope is held."""
        if scopes.allows(self.everywhere, scope):
            return Reach(everywhere=True)
        held = (slug for slug, found in self.limited.items() if scopes.allows(found, scope))
        return Reach(slugs=frozenset(held))

    def sees_payloads(self, department: str | None) -> bool:
        """Tell whether what the department's runs take, make and say may be shown."""
        return self.allows(PAYLOADS, department)


@lru_cache(maxsize=KEPT)
def of_scopes(held: tuple[str, ...]) -> Policy:
    """Return the policy of these scopes; `<department>:<scope>` holds in that department only."""
    everywhere: set[str] = set()
    limited: dict[str, set[str]] = {}
    for text in held:
        department, scope = scopes.parted(text)
        if department:
            limited.setdefault(department, set()).add(scope)
        else:
            everywhere.add(scope)
    return Policy(
        everywhere=frozenset(everywhere),
        limited=MappingProxyType({slug: frozenset(found) for slug, found in limited.items()}),
    )
