"""The admin's sign-in: as slow to guess at as the API's, by the same counts."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.exceptions import ValidationError
from unfold.forms import AuthenticationForm

from engine.access import lockouts, people

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

#: Where the form leaves for the answer how long the caller must wait, in seconds.
_WAIT = "sign_in_wait"


class SignInForm(AuthenticationForm):  # type: ignore[misc] # unfold is untyped
    """Ask for name and password, unless too many tries have failed."""

    def clean(self) -> dict[str, Any]:
        """Check the credentials; a try is counted before and given back when it was right."""
        cleaned: dict[str, Any] = self.cleaned_data
        if not cleaned.get("username") or not cleaned.get("password"):
            return cleaned
        try:
            tried = lockouts.begin(
                name=cleaned["username"], address=self.request.META.get("REMOTE_ADDR")
            )
        except lockouts.LockedOutError as exc:
            setattr(self.request, _WAIT, exc.wait)
            raise ValidationError(exc.message) from None
        try:
            cleaned = super().clean()
        except ValidationError:
            people.note_sign_in(cleaned["username"], None)
            raise
        lockouts.succeed(tried)
        people.note_sign_in("", self.get_user())
        return cleaned


def view(request: HttpRequest) -> HttpResponse:
    """Show the form; a try that was not looked at is 429, as in the API."""
    response: HttpResponse = admin.site.login(request)
    wait: int = getattr(request, _WAIT, 0)
    if wait:
        response.status_code = HTTPStatus.TOO_MANY_REQUESTS
        response["Retry-After"] = str(wait)
    return response
