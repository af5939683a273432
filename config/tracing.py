"""Whether spans are made (`engine.tracing`), by OpenTelemetry's own variables of the environment.

On with an endpoint, off without: then nothing of OpenTelemetry is imported, and it need not be
installed. What else is set (`OTEL_TRACES_SAMPLER`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_BSP_…`,
certificates, compression, timeouts) OpenTelemetry reads by itself.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

from config.environment import text
from engine import tracing

#: The one that is spoken here; gRPC would be another package with another event loop.
PROTOCOL = "http/protobuf"
PATH = "/v1/traces"


def register() -> None:
    """Give the engine its tracer if the environment asks for one.

    Raises ImproperlyConfigured, naming variable and remedy, for what cannot be done.
    """
    url = endpoint()
    if not url:
        return
    headers = text("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "") or text(
        "OTEL_EXPORTER_OTLP_HEADERS", ""
    )
    try:
        # An extra: imported only when it is wanted.
        from config.otlp.tracer import Tracer  # noqa: PLC0415

        tracer = Tracer(endpoint=url, headers=headers)
    except ModuleNotFoundError:
        raise ImproperlyConfigured(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set and OpenTelemetry is not installed: "
            "make tracing installs it, OTEL_SDK_DISABLED=true does without"
        ) from None
    except (ValueError, RuntimeError, OSError) as exc:
        raise ImproperlyConfigured(f"OpenTelemetry refuses a variable OTEL_…: {exc}") from None
    tracing.register(tracer)


def endpoint() -> str:
    """Return where spans are posted to, "" for nowhere."""
    # The standard takes `true` alone, in any case; everything else is false.
    if text("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ""
    exporter = text("OTEL_TRACES_EXPORTER", "").strip().lower() or "otlp"
    if url := text("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "").strip():
        name = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
    else:
        name = "OTEL_EXPORTER_OTLP_ENDPOINT"
        base = text("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip()
        url = base and base.rstrip("/") + PATH
    if not url or exporter == "none":
        return ""
    if exporter != "otlp":
        raise ImproperlyConfigured(f"OTEL_TRACES_EXPORTER must be otlp or none, not {exporter!r}")
    protocol = (
        text("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "").strip()
        or text("OTEL_EXPORTER_OTLP_PROTOCOL", "").strip()
    )
    if protocol not in {"", PROTOCOL}:
        raise ImproperlyConfigured(
            f"OTEL_EXPORTER_OTLP_PROTOCOL must be {PROTOCOL}, not {protocol!r}: "
            "send to the receiver's port for HTTP, usually 4318"
        )
    if not _is_address(url):
        # Not repeated: it may hold a key.
        raise ImproperlyConfigured(f"{name} must be an address like http://127.0.0.1:4318")
    return url


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
