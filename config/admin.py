"""Wire the admin: Django discovers this module; the rooms' pages register on import."""

from __future__ import annotations

from importlib import import_module

from django.contrib import admin

PAGES = [
    "engine.admin.runs",
    "engine.admin.dead_letters",
    "engine.admin.effects",
    "engine.admin.artifacts",
    "engine.admin.webhooks",
    "engine.admin.workers",
    "engine.admin.people",
    "engine.admin.lockouts",
    "engine.admin.audit",
    "engine.admin.tokens",
    "departments.admin.departments",
    "departments.admin.automations",
    "departments.admin.schedules",
]

for page in PAGES:
    import_module(page)

admin.site.index_template = "departments/admin/dashboard.html"
