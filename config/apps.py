from django.apps import AppConfig


class ConfigConfig(AppConfig):
    """Wiring. Without the import below web and manager would publish to Celery's default broker."""

    name = "config"

    def ready(self) -> None:
        """Make the configured Celery application the current one in every process."""
        from config import celery  # noqa: F401, PLC0415 - settings must be ready first
