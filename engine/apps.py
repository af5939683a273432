from django.apps import AppConfig


class EngineConfig(AppConfig):
    """The domain: what a run is and how it moves."""

    name = "engine"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks."""
        from engine import checks  # noqa: F401, PLC0415 - checks register themselves on import
