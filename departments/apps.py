from django.apps import AppConfig
from django.conf import settings

from engine import registry


class DepartmentsConfig(AppConfig):
    """Who owns what, and the business itself."""

    name = "departments"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Load the catalog; what is wrong in it is reported by the checks, not by a traceback."""
        registry.load(settings.CATALOG_PACKAGES)
