from urllib.parse import unquote, urlsplit

from django.apps import AppConfig


class ConfigConfig(AppConfig):
    """Wiring. Without the import below web and manager would publish to Celery's default broker."""

    name = "config"

    def ready(self) -> None:
        """Make the configured Celery application the current one; keep our secrets out of logs."""
        from django.conf import settings  # noqa: PLC0415 - settings must be ready first

        from config import celery, tracing  # noqa: F401, PLC0415 - same
        from config.logs import redaction  # noqa: PLC0415 - same

        redaction.learn(
            settings.SECRET_KEY,
            *(part.strip() for part in settings.MASTER_KEY.split(",")),
            settings.JWT_SECRET,
            settings.DATABASES["default"]["PASSWORD"],
            (settings.OWNER_DATABASE or {}).get("PASSWORD", ""),
            unquote(urlsplit(settings.REDIS_URL).password or ""),
        )
        tracing.register()
