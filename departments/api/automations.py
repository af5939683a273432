"""`/automations`: what can be run, and what it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response
from rest_framework.views import APIView

from departments import selectors
from departments.api import examples
from departments.representations import (
    AutomationDetail,
    AutomationEntry,
    GraphForm,
    GraphNode,
    VersionEntry,
)
from engine.api import permissions, requests
from engine.api.pages import Listing, page
from engine.api.problems import Problem
from engine.api.requests import Strict, Word
from engine.graph import Graph

if TYPE_CHECKING:
    from rest_framework.request import Request

READ = {"GET": "departments.read"}


class AutomationList(Listing[AutomationEntry]):
    """Every automation, by name."""


class AutomationsQuery(Strict):
    """Which automations."""

    department: Word | None = None


class AutomationsView(APIView):
    """The collection of automations."""

    scopes: ClassVar[dict[str, str]] = READ
    examples = examples.BY_FORM
    by_department = True

    @extend_schema(
        tags=["departments"],
        operation_id="listAutomations",
        summary="List automations",
        parameters=requests.parameters(AutomationsQuery),
        responses={200: AutomationList, 400: Problem},
    )
    def get(self, request: Request) -> Response:
        """List automations."""
        wanted = requests.query(request, AutomationsQuery)
        seen = permissions.reach(request, "departments.read").only
        found = selectors.automations(department=wanted.department, only=seen)
        return page(request, [AutomationEntry.of(row) for row in found])


class AutomationView(APIView):
    """One automation."""

    scopes: ClassVar[dict[str, str]] = READ
    examples = examples.BY_FORM
    by_department = True

    @extend_schema(
        tags=["departments"],
        operation_id="getAutomation",
        summary="An automation with its input schema, graph and versions",
        responses={200: AutomationDetail, 404: Problem},
    )
    def get(self, request: Request, name: str) -> Response:
        """Show an automation."""
        requests.nothing(request)
        row = selectors.automation(name=requests.name(name, what="automation"))
        missing = f"There is no automation {name!r}."
        permissions.require(request, "departments.read", row.department_id, missing=missing)
        graph = Graph.load(row.current_version.graph)
        nodes = [
            GraphNode(key=node.key, step=node.step, mapped=node.mapped, after=node.parents)
            for node in graph.topological
        ]
        detail = AutomationDetail.of(
            row,
            input_schema=row.current_version.input_schema,
            graph=GraphForm(nodes=nodes, output=graph.output, on_dead=graph.on_dead),
            versions=[VersionEntry.of(found) for found in selectors.versions(name=row.name)],
        )
        return Response(detail.model_dump(mode="json"))
