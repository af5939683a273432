from django.apps import AppConfig
from django.conf import settings

from engine import registry


class DepartmentsConfig(AppConfig):
    """Who owns what, and the business itself."""

    name = "departments"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Load the catalog; what is wrong in it is reported by the checks, not by a traceback."""
        from departments import invariants  # noqa: PLC0415 - settings must be ready first
        from engine.invariants import surveys  # noqa: PLC0415 - same

        surveys.add(invariants.FIRES, invariants.SCHEDULES)
        registry.load(settings.CATALOG_PACKAGES)
