"""Paths of the departments' API, as the operations contract names them."""

from __future__ import annotations

from django.urls import path

from departments.api import automations, departments, streams

urlpatterns = [
    path("departments", departments.DepartmentsView.as_view(), name="departments"),
    path("departments/<str:slug>", departments.DepartmentView.as_view(), name="department"),
    path(
        "departments/<str:slug>/stream",
        streams.DepartmentStreamView.as_view(),
        name="department-stream",
    ),
    path("departments/<str:slug>/pause", departments.PauseView.as_view(), name="department-pause"),
    path(
        "departments/<str:slug>/resume", departments.ResumeView.as_view(), name="department-resume"
    ),
    path("automations", automations.AutomationsView.as_view(), name="automations"),
    path("automations/<str:name>", automations.AutomationView.as_view(), name="automation"),
]
