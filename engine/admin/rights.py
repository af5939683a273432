"""What the user of the admin may see and do: the policy of their roles, as the API judges tokens.

Asked of the database once a request, so that a role that was taken away is gone with the next page.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin, messages

from engine.access import grants
from engine.admin import malformed
from engine.models import Lane

if TYPE_CHECKING:
    from django.db.models import Model, QuerySet
    from django.http import HttpRequest, HttpResponse

    from engine.access.policy import Policy, Reach


def policy_of(request: HttpRequest) -> Policy:
    """Return the policy of who asks."""
    found: Policy | None = getattr(request, "access_policy", None)
    if found is None:
        found = grants.policy_of(request.user)
        request.access_policy = found  # type: ignore[attr-defined] # kept for this request
    return found


def may(request: HttpRequest, scope: str, department: str | None = None) -> bool:
    """Tell whether the user holds the scope in the department, or everywhere if none is named."""
    return policy_of(request).allows(scope, department)


def reach(request: HttpRequest, scope: str) -> Reach:
    """Return the departments in which the user holds the scope."""
    return policy_of(request).departments(scope)


def sees_payloads(request: HttpRequest, department: str | None) -> bool:
    """Tell whether the user may see what the department's work is about."""
    return policy_of(request).sees_payloads(department)


class ByPolicy:
    """Cut an admin page to what the policy lets its user see: the page, its rows, its filters.

    A row of a department that the user does not reach is not there: 404, or a page that says so.
    """

    #: Who may see the page, admins of everything unless it says otherwise; who may act on its rows
    #: ("" is nobody).
    read_scope: ClassVar[str] = "admin.*"
    write_scope: ClassVar[str] = ""
    #: The lookup that leads from a row to its department's slug; "" for rows of no department:
    #: they are for those who hold the scope everywhere.
    department_field: ClassVar[str] = ""

    def department_of(self, row: Any) -> str | None:
        """Return the slug of the department a row is of, None if it is of none."""
        for part in filter(None, self.department_field.split("__")):
            row = getattr(row, part, None)
        return row if self.department_field else None

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Tell whether the page is in the menu."""
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Tell whether the user may see the page, or this row of it."""
        return self._holds(request, self.read_scope, obj)

    def has_act_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Tell whether the user may act on some rows, or on this one."""
        return bool(self.write_scope) and self._holds(request, self.write_scope, obj)

    def _holds(self, request: HttpRequest, scope: str, obj: Model | None) -> bool:
        held = reach(request, scope)
        if obj is not None:
            return self.department_of(obj) in held
        return bool(held) if self.department_field else held.everywhere

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Leave out the rows of departments that the user does not reach."""
        rows: QuerySet[Any] = super().get_queryset(request)  # type: ignore[misc] # of ModelAdmin
        return self._cut(request, rows, self.read_scope)

    def _cut(self, request: HttpRequest, rows: QuerySet[Any], scope: str) -> QuerySet[Any]:
        only = reach(request, scope).only
        if only is None:
            return rows
        if not self.department_field:
            return rows.none()
        return rows.filter(**{f"{self.department_field}__in": only})

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the list, or act on what was selected of it."""
        malformed.require_keys(request, self.model._meta.pk)  # type: ignore[attr-defined] # noqa: SLF001 - of ModelAdmin
        found: HttpResponse = super().changelist_view(request, extra_context)  # type: ignore[misc] # same
        return found

    def actable(self, request: HttpRequest, chosen: QuerySet[Any]) -> list[Any]:
        """Return the keys of the chosen rows that the user may act on; say if some are not."""
        keys = list(chosen.values_list("pk", flat=True))
        allowed = set(self._cut(request, chosen, self.write_scope).values_list("pk", flat=True))
        if left := sum(key not in allowed for key in keys):
            messages.warning(request, f"Left out: {left}. Your roles do not allow it there.")
        return [key for key in keys if key in allowed]

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Allow the filters that are shown, and no question about other columns.

        Django lets an address ask for any column of a row (`?input__contains=…`): whoever may not
        see payload could find it out by what is listed.
        """
        offered = [
            found if isinstance(found, str) else getattr(found, "parameter_name", "")
            for found in self.get_list_filter(request)  # type: ignore[attr-defined] # of ModelAdmin
        ]
        asked = any(lookup == name or lookup.startswith(f"{name}__") for name in offered if name)
        return asked and super().lookup_allowed(lookup, value, request)  # type: ignore[misc]


class DepartmentFilter(admin.SimpleListFilter):
    """Filter by department; offers those that the user reaches, without reading the rows."""

    title = "department"
    parameter_name = "department"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the departments on offer."""
        self.field = model_admin.department_field
        held = reach(request, model_admin.read_scope)
        slugs = Lane.objects.order_by("slug").values_list("slug", flat=True)
        return [(slug, slug) for slug in slugs if slug in held]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:  # noqa: ARG002
        """Return the rows of the department that is chosen."""
        chosen = self.value()
        return queryset.filter(**{self.field: chosen}) if chosen else queryset


def _somewhere(scope: str, request: HttpRequest) -> bool:
    return bool(reach(request, scope))


def _everywhere(scope: str, request: HttpRequest) -> bool:
    return may(request, scope)


# What the menu asks, named in the settings (UNFOLD).
sees_runs = partial(_somewhere, "runs.read")
sees_dead_letters = partial(_somewhere, "dead_letters.read")
sees_files = partial(_somewhere, "artifacts.read")
sees_departments = partial(_somewhere, "departments.read")
sees_schedules = partial(_somewhere, "schedules.read")
sees_webhooks = partial(_somewhere, "webhooks.read")
sees_workers = partial(_everywhere, "departments.read")
sees_people = partial(_everywhere, "admin.people")
sees_audit = partial(_everywhere, "admin.*")
