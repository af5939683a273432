"""People who may sign in, and the roles they hold: what they may do here and through the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as PlainUserAdmin
from django.contrib.auth.models import Group, User
from django.db import transaction
from unfold.admin import ModelAdmin, TabularInline
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminSelectWidget

from engine.access import grants
from engine.admin import malformed, recording, rights
from engine.admin.acting import actor
from engine.admin.recording import RecordingAdmin
from engine.models import RoleGrant

if TYPE_CHECKING:
    from django.db.models import Model, QuerySet
    from django.http import HttpRequest, HttpResponse

EVERYWHERE = "every department"

admin.site.unregister(User)
# Groups hold Django's permissions, which decide nothing here: roles do.
admin.site.unregister(Group)
recording.password_change(admin.site)
malformed.bound_search(admin.site)


def _places() -> list[tuple[str, str]]:
    return [("", EVERYWHERE), *((slug, slug) for slug in grants.departments())]


class GrantForm(forms.ModelForm):  # type: ignore[type-arg] # not subscriptable at run time
    """A role, and where it is held."""

    department = forms.ChoiceField(
        choices=_places, required=False, widget=UnfoldAdminSelectWidget, label="In"
    )

    class Meta:
        model = RoleGrant
        fields = ["role", "department"]


class GrantInline(TabularInline):  # type: ignore[misc] # unfold ships no types
    """The roles of a person: granted and taken away, never changed into another."""

    model = RoleGrant
    form = GrantForm
    fields = ["role", "department"]
    extra = 0
    verbose_name, verbose_name_plural = "role", "roles"

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        """Refuse: another role is another row."""
        return False

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        """Tell whether the user may see who holds what."""
        return rights.may(request, "admin.people")

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Tell whether the user may grant and take away."""
        return self.has_view_permission(request, obj)

    has_delete_permission = has_add_permission


@admin.register(User)
class UserAdmin(RecordingAdmin, rights.ByPolicy, PlainUserAdmin, ModelAdmin):  # type: ignore[misc, type-arg] # unfold has no types
    """People who may sign in. Only a superuser makes, changes or removes superusers."""

    read_scope = write_scope = "admin.people"
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    inlines = [GrantInline]
    list_display = ["username", "first_name", "last_name", "roles", "is_staff", "is_active"]
    list_filter = ["is_staff", "is_superuser", "is_active"]
    filter_horizontal = []
    # Django's form asks for single sign-on, which is not here, and not who may enter the admin.
    add_fieldsets = [(None, {"fields": ["username", "password1", "password2", "is_staff"]})]
    fieldsets = [
        (None, {"fields": ["username", "password"]}),
        ("Person", {"fields": ["first_name", "last_name", "email"]}),
        ("May sign in", {"fields": ["is_active", "is_staff", "is_superuser"]}),
        ("When", {"fields": ["last_login", "date_joined"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        """Bring the roles along."""
        return super().get_queryset(request).prefetch_related("role_grants")

    @admin.display(description="Roles")
    def roles(self, row: User) -> str:
        """Return the roles, each with its department."""
        if row.is_superuser:
            return "superuser"
        held = sorted((grant.department, grant.role) for grant in row.role_grants.all())
        return ", ".join(f"{role} ({place})" if place else role for place, role in held) or "none"

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> list[str]:
        """Let nobody but a superuser make one."""
        fields = ["last_login", "date_joined", *super().get_readonly_fields(request, obj)]
        return fields if request.user.is_superuser else [*fields, "is_superuser"]

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Tell whether the user may change people, or this person."""
        reserved = isinstance(obj, User) and obj.is_superuser and not request.user.is_superuser
        return self.has_act_permission(request, obj) and not reserved

    has_delete_permission = has_change_permission

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may add people."""
        return self.has_act_permission(request)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:  # noqa: FBT001
        """Grant and take away through the door."""
        if formset.model is not RoleGrant:
            super().save_formset(request, form, formset, change)
            return
        formset.save(commit=False)
        by = actor(request)
        for row in formset.deleted_objects:
            grants.revoke(user=row.user, role=row.role, department=row.department, by=by)
        for row in formset.new_objects:
            grants.grant(user=row.user, role=row.role, department=row.department, by=by)

    def user_change_password(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Change the password and record it in one transaction."""
        with transaction.atomic():
            found: HttpResponse = super().user_change_password(request, *args, **kwargs)
            return found
