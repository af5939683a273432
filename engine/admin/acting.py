"""Acts of operators in the admin: through the engine's doors, refusals shown as messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages

from engine.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from django.http import HttpRequest


def actor(request: HttpRequest) -> str:
    """Return the name an act is recorded under."""
    return request.user.get_username()


def act(
    request: HttpRequest, door: Callable[[Any], object], subjects: Iterable[Any], *, done: str
) -> None:
    """Call the door for each subject; say how many went through and why others did not."""
    passed = 0
    for subject in subjects:
        try:
            door(subject)
        except EngineError as exc:
            messages.warning(request, exc.message)
        else:
            passed += 1
    if passed:
        messages.success(request, f"{done}: {passed}" if passed > 1 else f"{done}.")
