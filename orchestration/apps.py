from django.apps import AppConfig


class OrchestrationConfig(AppConfig):
    """Moving the work: the only room that knows the broker."""

    name = "orchestration"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Give the engine its publisher, in web, manager, commands and workers alike."""
        from engine import publishing  # noqa: PLC0415 - settings must be ready first
        from orchestration import publisher  # noqa: PLC0415 - same

        publishing.register(publisher.publisher)
