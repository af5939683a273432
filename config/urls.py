"""Every path the web process answers, as the operations contract names it, without final slash."""

from __future__ import annotations

from django.conf import settings
from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularSwaggerSplitView

from config import description, health, telemetry
from engine.admin import signing_in

urlpatterns = [
    # Who types the bare address is a person: programs know their paths.
    path("", RedirectView.as_view(pattern_name="admin:index"), name="home"),
    # Browsers ask for it by themselves, on every page.
    path("favicon.ico", RedirectView.as_view(url=f"{settings.STATIC_URL}config/favicon.svg")),
    path("livez", health.live, name="livez"),
    path("readyz", health.ready, name="readyz"),
    path("health", health.overall, name="health"),
    path("health/manager", health.manager, name="health-manager"),
    path("metrics", telemetry.metrics, name="metrics"),
    path("openapi.json", description.DescriptionView.as_view(), name="openapi"),
    path(
        "docs",
        SpectacularSwaggerSplitView.as_view(url_name="openapi", template_name="config/docs.html"),
        name="docs",
    ),
    path("", include("engine.api.urls")),
    path("", include("departments.api.urls")),
    # Before the admin's own, which it wraps: a locked sign-in is answered 429.
    path("admin/login/", signing_in.view),
    path("admin/", admin.site.urls),
]

handler400 = "config.problems.bad_request"
handler403 = "config.problems.permission_denied"
handler404 = "config.problems.not_found"
handler500 = "config.problems.server_error"
