"""System checks of the engine: `manage.py check` names the file and the step at fault."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Error, register

from engine import registry


@register()
def catalog_is_sound(**_kwargs: Any) -> list[CheckMessage]:
    """Report what the catalog could not declare (engine.E001)."""
    return [
        Error(
            problem, hint="Mend the declaration; nothing of it runs until then.", id="engine.E001"
        )
        for problem in registry.problems
    ]
