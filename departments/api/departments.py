"""`/departments`: who owns what, and stopping and going on of their work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response
from rest_framework.views import APIView

from departments import selectors, services
from departments.api import examples
from departments.representations import DepartmentEntry
from engine.api import permissions, principal, requests
from engine.api.pages import Listing, page
from engine.api.problems import Problem

if TYPE_CHECKING:
    from rest_framework.request import Request

    from departments.selectors import DepartmentStatus


class DepartmentList(Listing[DepartmentEntry]):
    """Every department, by slug."""


class DepartmentsView(APIView):
    """The collection of departments."""

    scopes: ClassVar[dict[str, str]] = {"GET": "departments.read"}
    examples = examples.BY_FORM
    by_department = True

    @extend_schema(
        tags=["departments"],
        operation_id="listDepartments",
        summary="List departments with their open work",
        responses={200: DepartmentList, 403: Problem},
    )
    def get(self, request: Request) -> Response:
        """List departments."""
        requests.nothing(request)
        seen = permissions.reach(request, "departments.read").only
        found = selectors.departments(only=seen)
        return page(request, [DepartmentEntry.of(status) for status in found])


class DepartmentView(APIView):
    """One department."""

    scopes: ClassVar[dict[str, str]] = {"GET": "departments.read"}
    examples = examples.BY_FORM
    by_department = True

    @extend_schema(
        tags=["departments"],
        operation_id="getDepartment",
        summary="A department with its open work",
        responses={200: DepartmentEntry, 404: Problem},
    )
    def get(self, request: Request, slug: str) -> Response:
        """Show a department."""
        requests.nothing(request)
        found = selectors.department(slug=_required(request, slug, "departments.read"))
        return Response(_shown(found))


class PauseView(APIView):
    """Pause a department."""

    scopes: ClassVar[dict[str, str]] = {"POST": "departments.write"}
    examples = examples.BY_FORM
    by_department = True

    @extend_schema(
        tags=["departments"],
        operation_id="pauseDepartment",
        summary="Start nothing new of the department; what runs goes on to its end",
        request=None,
        responses={200: DepartmentEntry, 404: Problem},
    )
    def post(self, request: Request, slug: str) -> Response:
        """Pause; pausing twice changes nothing."""
        requests.nothing(request)
        known = _required(request, slug, "departments.write")
        found = services.pause(slug=known, actor=principal.of(request).subject)
        return Response(_shown(found))


class ResumeView(APIView):
    """Resume a department."""

    scopes: ClassVar[dict[str, str]] = {"POST": "departments.write"}
    examples = examples.BY_FORM
    by_department = True

    @extend_schema(
        tags=["departments"],
        operation_id="resumeDepartment",
        summary="Start work of the department again",
        request=None,
        responses={200: DepartmentEntry, 404: Problem},
    )
    def post(self, request: Request, slug: str) -> Response:
        """Resume; resuming twice changes nothing."""
        requests.nothing(request)
        known = _required(request, slug, "departments.write")
        found = services.resume(slug=known, actor=principal.of(request).subject)
        return Response(_shown(found))


def _required(request: Request, text: str, scope: str) -> str:
    """Return the slug of the path, if the caller holds the scope in that department."""
    slug = requests.name(text, what="department")
    permissions.require(request, scope, slug, missing=f"There is no department {slug!r}.")
    return slug


def _shown(found: DepartmentStatus) -> dict[str, Any]:
    return DepartmentEntry.of(found).model_dump(mode="json")
