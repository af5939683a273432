"""Forms of the admin that write rows themselves: what they change stands in the audit trail.

Pages whose acts go through a door of the engine need none of this: the doors record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db import transaction

from engine.audit import trail

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.db.models import Model
    from django.http import HttpRequest, HttpResponse
    from django.http.response import HttpResponseBase

_BEFORE = "_audit_before"


class RecordingAdmin(admin.ModelAdmin):  # type: ignore[type-arg] # not subscriptable at run time
    """Record additions, changes and deletions beside Django's own log, in their transaction."""

    def save_model(self, request: HttpRequest, obj: Model, form: Any, change: bool) -> None:  # noqa: FBT001
        """Look at the row before it is overwritten."""
        if change:
            before = self.model._default_manager.get(pk=obj.pk)  # noqa: SLF001 - Django's own name
            setattr(obj, _BEFORE, shown(before))
        super().save_model(request, obj, form, change)

    def log_addition(self, request: HttpRequest, obj: Model, message: Any) -> Any:
        """Record what was added."""
        self._record("create", obj, after=shown(obj))
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Model, message: Any) -> Any:
        """Record what is different now; of a password, that it is another one."""
        before = obj.__dict__.pop(_BEFORE, None)
        if before is None:
            self._record("password", obj)
        else:
            was, now = trail.changed(before, shown(obj))
            self._record("change", obj, before=was, after=now)
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: Iterable[Any]) -> Any:
        """Record what is about to be deleted."""
        for obj in queryset:
            self._record("remove", obj, before=shown(obj))
        return super().log_deletions(request, queryset)  # type: ignore[arg-type] # lists as well

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Do what is done to a selection in one transaction with its records."""
        with transaction.atomic():
            found: HttpResponse = super().changelist_view(request, extra_context)
            return found

    def _record(
        self,
        verb: str,
        obj: Any,
        *,
        before: dict[str, Any] | None = None,
        after: dict[str, Any] | None = None,
    ) -> None:
        kind = str(self.model._meta.model_name)  # noqa: SLF001 - Django's documented attribute
        named = obj.get_username() if hasattr(obj, "get_username") else str(obj)
        trail.record(f"{kind}.{verb}", kind=kind, id=named, before=before, after=after)


def shown(obj: Model) -> dict[str, Any]:
    """Return what may be told of a row: its allowed columns and whom it is joined to, by name."""
    fields = obj._meta  # noqa: SLF001 - Django's documented attribute
    found: dict[str, Any] = {
        field.name: field.value_from_object(obj)
        for field in fields.concrete_fields
        if field.name in trail.ALLOWED
    }
    for field in fields.many_to_many:
        if field.name in trail.ALLOWED:
            found[field.name] = sorted(str(row) for row in getattr(obj, field.name).all())
    return found


def password_change(site: admin.AdminSite) -> None:
    """Let the site record that somebody changed the own password."""
    original = site.password_change

    def recorded(
        request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponseBase:
        with transaction.atomic():
            response: HttpResponseBase = original(request, extra_context)
            if request.method == "POST" and response.status_code == REDIRECT:
                trail.record("user.password", kind="user", id=request.user.get_username())
        return response

    site.password_change = recorded  # type: ignore[method-assign, assignment]


#: What a form answers that was accepted.
REDIRECT = 302
