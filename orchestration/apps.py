from django.apps import AppConfig


class OrchestrationConfig(AppConfig):
    """Moving the work: the only room that knows the broker."""

    name = "orchestration"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Give the engine its publisher and its counter of calls, in every process alike."""
        from engine import publishing  # noqa: PLC0415 - settings must be ready first
        from engine.access import throttling  # noqa: PLC0415 - same
        from orchestration import call_counter, publisher  # noqa: PLC0415 - same

        publishing.register(publisher.publisher)
        throttling.register(call_counter.counter)
