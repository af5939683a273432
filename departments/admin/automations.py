"""Automations: what can be run, what it takes, how it is built."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from django.contrib import admin
from django.utils.html import format_html, format_html_join

from departments.models import Automation
from engine.admin.reading import ReadingAdmin
from engine.admin.rights import DepartmentFilter
from engine.graph import Graph

if TYPE_CHECKING:
    from django.utils.safestring import SafeString


@admin.register(Automation)
class AutomationAdmin(ReadingAdmin):
    """Automations, by name."""

    empty_text = "Files below departments/catalog declare them; manage.py sync_catalog publishes."
    read_scope, department_field = "departments.read", "department_id"
    list_display = ["name", "title", "department", "version", "declared"]
    list_filter = [DepartmentFilter, "declared"]
    list_select_related = ["department", "current_version"]
    search_fields = ["name", "title"]
    ordering = ["name"]
    fields = [
        "name",
        "title",
        "description",
        "department",
        "version",
        "declared",
        "steps",
        "input_form",
    ]
    readonly_fields = fields

    @admin.display(description="Version")
    def version(self, row: Automation) -> str:
        """Return what new runs use."""
        return f"v{row.current_version.version}"

    @admin.display(description="Steps")
    def steps(self, row: Automation) -> SafeString:
        """Return the graph as a list: each step with what it waits for."""
        graph = Graph.load(row.current_version.graph)
        lines = format_html_join(
            "",
            "<li><b>{}</b>{}{}</li>",
            (
                (
                    node.key,
                    " for each item" if node.mapped else "",
                    f", after {', '.join(node.parents)}" if node.parents else "",
                )
                for node in graph.topological
            ),
        )
        return format_html('<ol class="abe-steps">{}</ol>', lines)

    @admin.display(description="Input (JSON Schema)")
    def input_form(self, row: Automation) -> SafeString:
        """Return the input's schema."""
        text = json.dumps(row.current_version.input_schema, indent=2, ensure_ascii=False)
        return format_html('<pre class="abe-code">{}</pre>', text)
