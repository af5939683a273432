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


class Schedule(models.Model):
    """When an automation is to be started by itself.

    `next_fire_at` is the only thing that is due; a fire makes the run with the business key
    `schedule:<id>:<fire time>`, which is unique, and moves it on in the same transaction.
    """

    CATCH_UP = [
        ("skip", "skip: fire times that were missed are not made up for"),
        ("latest", "latest: only the last one that was missed"),
        ("all", "all: each one that was missed, up to the limit"),
    ]

    id = models.BigAutoField(primary_key=True)
    name = models.SlugField(max_length=100, unique=True)
    automation = models.ForeignKey(Automation, on_delete=models.PROTECT, related_name="schedules")
    input = models.JSONField(default=dict, blank=True)
    cron = models.CharField(max_length=100, help_text="minute hour day month weekday")
    time_zone = models.CharField(max_length=63, default="UTC", help_text="e.g. Europe/Berlin")
    catch_up = models.CharField(max_length=6, choices=CATCH_UP, default="latest")
    catch_up_limit = models.PositiveIntegerField(
        default=100, help_text="Most fire times made up for at once (catch up: all)"
    )
    enabled = models.BooleanField(default=True)
    next_fire_at = models.DateTimeField(null=True, blank=True)
    last_fire_at = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=500, blank=True, default="")

    class Meta:
        indexes = [
            # The manager's look for what is due.
            models.Index(
                fields=["next_fire_at"],
                name="schedule_due",
                condition=models.Q(enabled=True, next_fire_at__isnull=False),
            )
        ]

    def __str__(self) -> str:
        return self.name
