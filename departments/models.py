"""Departments and the automations they own, as rows: what operators see and set."""

from __future__ import annotations

from django.db import models

from engine.models import AutomationVersion


class Department(models.Model):
    """A part of the business. Declared in the catalog; operators set its policy (the lane)."""

    slug = models.CharField(max_length=63, primary_key=True)
    title = models.CharField(max_length=200)
    purpose = models.TextField(blank=True, default="")
    declared = models.BooleanField(default=True, help_text="Still declared in the catalog")

    def __str__(self) -> str:
        return self.title


class Automation(models.Model):
    """An automation a department owns, pointing at the version new runs use."""

    name = models.CharField(max_length=200, primary_key=True)
    department = models.ForeignKey(Department, on_delete=models.PROTECT, related_name="automations")
    title = models.CharField(max_length=200)
    description = models.TextField(blank=True, default="")
    declared = models.BooleanField(default=True, help_text="Still declared in the catalog")
    current_version = models.ForeignKey(
        AutomationVersion, on_delete=models.PROTECT, related_name="+"
    )

    def __str__(self) -> str:
        return self.name
