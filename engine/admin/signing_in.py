"""The admin's sign-in form: as slow to guess at as the API's."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from unfold.forms import AuthenticationForm

from engine.access import guessing


class SignInForm(AuthenticationForm):  # type: ignore[misc] # unfold is untyped
    """Ask for name and password; so many tries per address and minute, the API's included."""

    def clean(self) -> dict[str, Any]:
        """Check the credentials unless too many were tried."""
        if wait := guessing.wait_seconds(self.request):
            raise ValidationError(f"Too many tries. Wait {wait} seconds, then try again.")
        cleaned: dict[str, Any] = super().clean()
        return cleaned
