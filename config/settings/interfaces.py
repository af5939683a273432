"""How the faces behave: REST API, its description, admin theme, request telemetry.

Imported by `config.settings.base` with `*`, which also adds the apps and middleware named here.
"""

from __future__ import annotations

from typing import Any

from django.templatetags.static import static
from django.urls import reverse_lazy
from django.utils.text import format_lazy

#: Outermost first: gives every request an id and counts it, whatever answers it.
TELEMETRY_MIDDLEWARE = "config.telemetry.RequestTelemetry"
#: Beside it: what answers say in their headers, and to whose pages.
HEADERS_MIDDLEWARE = [
    "config.response_headers.ResponseHeaders",
    "config.content_security.ContentSecurity",
    "corsheaders.middleware.CorsMiddleware",
]
#: Swagger UI's files, served from this installation: `/docs` works without a network.
INTERFACE_APPS = ["drf_spectacular_sidecar"]

REST_FRAMEWORK: dict[str, Any] = {
    # Bearer tokens only: a session cookie must not authorise an API call (no CSRF hole).
    "DEFAULT_AUTHENTICATION_CLASSES": ["engine.api.authentication.BearerAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["engine.api.permissions.HasScope"],
    "DEFAULT_THROTTLE_CLASSES": ["engine.api.throttles.PerCaller"],
    "DEFAULT_PARSER_CLASSES": ["engine.api.parsers.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "engine.api.negotiation.AlwaysJSON",
    "DEFAULT_SCHEMA_CLASS": "engine.api.description.Schema",
    "EXCEPTION_HANDLER": "engine.api.problems.handle",
    "UNAUTHENTICATED_USER": None,
}

#: Pages of other origins call the API with tokens, never with cookies; the admin is no API.
CORS_URLS_REGEX = r"^/(?!admin/)"
CORS_ALLOW_CREDENTIALS = False
CORS_ALLOW_METHODS = ["GET", "POST", "PATCH", "PUT", "DELETE"]
CORS_ALLOW_HEADERS = [
    "accept",
    "authorization",
    "content-type",
    "idempotency-key",
    "if-none-match",
    "last-event-id",
    "range",
    "traceparent",
    "tracestate",
    "x-request-id",
]
CORS_EXPOSE_HEADERS = [
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Range",
    "ETag",
    "Idempotent-Replayed",
    "Location",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "WWW-Authenticate",
    "X-Request-ID",
]
#: How long a browser may remember what it was told of an address, in seconds.
CORS_PREFLIGHT_MAX_AGE = 600

SPECTACULAR_SETTINGS: dict[str, Any] = {
    "TITLE": "AI Business Engine",
    "DESCRIPTION": (
        "Departments own automations; a run is one durable execution of one of them.\n\n"
        "Every call carries `Authorization: Bearer <token>`: mint one with "
        '`manage.py mint_jwt --scopes "runs.*"` or `POST /auth/token`. '
        "Errors are problem details (RFC 9457) with a stable `code`.\n\n"
        "`X-Request-ID`, if sent, comes back and becomes the `correlation_id` of the run that the "
        "call starts; `traceparent` (W3C Trace Context) is kept as the run's. Events, log lines, "
        "steps and outgoing webhooks carry both."
    ),
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {
        "persistAuthorization": True,
        "displayRequestDuration": True,
        "docExpansion": "list",
    },
    "SORT_OPERATION_PARAMETERS": False,
    "TAGS": [
        {"name": "runs", "description": "Start runs, follow them, steer them"},
        {"name": "departments", "description": "Departments and the automations they own"},
        {"name": "dead letters", "description": "Steps that failed for good"},
        {"name": "artifacts", "description": "Files that runs read and made"},
        {"name": "webhooks", "description": "Tell other systems, and be told by them"},
        {"name": "access", "description": "Tokens"},
    ],
}


def _link(title: str, icon: str, view: str, *, sees: str = "", query: str = "") -> dict[str, Any]:
    """Return an entry of the menu; `sees` names who sees it in `engine.admin.rights`."""
    found = {"title": title, "icon": icon, "link": format_lazy("{}{}", reverse_lazy(view), query)}
    return found | ({"permission": f"engine.admin.rights.sees_{sees}"} if sees else {})


UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "AI Business Engine",
    "SITE_HEADER": "AI Business Engine",
    "SITE_SUBHEADER": "Operations",
    # There is no site to return to: "/" leads here.
    "SITE_URL": None,
    "SITE_SYMBOL": "conversion_path",
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "ENVIRONMENT": None,
    "LOGIN": {"form": "engine.admin.signing_in.SignInForm"},
    "DASHBOARD_CALLBACK": "departments.admin.dashboard.context",
    "STYLES": [lambda _request: static("engine/admin.css")],
    "BORDER_RADIUS": "8px",
    "SIDEBAR": {
        "show_search": False,
        "show_all_applications": False,
        "navigation": [
            {
                "title": "Work",
                "items": [
                    _link("Overview", "space_dashboard", "admin:index"),
                    _link("Runs", "conveyor_belt", "admin:engine_run_changelist", sees="runs"),
                    _link(
                        "Dead letters",
                        "report",
                        "admin:engine_deadletter_changelist",
                        sees="dead_letters",
                    ),
                    _link(
                        "Effects",
                        "outgoing_mail",
                        "admin:engine_effect_changelist",
                        sees="dead_letters",
                        query="?state__exact=unknown",
                    ),
                    _link("Files", "draft", "admin:engine_artifact_changelist", sees="files"),
                ],
            },
            {
                "title": "Business",
                "items": [
                    _link(
                        "Departments",
                        "domain",
                        "admin:departments_department_changelist",
                        sees="departments",
                    ),
                    _link(
                        "Automations",
                        "account_tree",
                        "admin:departments_automation_changelist",
                        sees="departments",
                    ),
                    _link(
                        "Schedules",
                        "event_repeat",
                        "admin:departments_schedule_changelist",
                        sees="schedules",
                    ),
                    _link(
                        "Webhooks",
                        "webhook",
                        "admin:engine_webhookendpoint_changelist",
                        sees="webhooks",
                    ),
                    _link(
                        "Deliveries",
                        "outbox",
                        "admin:engine_webhookdelivery_changelist",
                        sees="webhooks",
                    ),
                    _link(
                        "Incoming hooks",
                        "move_to_inbox",
                        "admin:engine_incominghook_changelist",
                        sees="webhooks",
                    ),
                ],
            },
            {
                "title": "Installation",
                "items": [
                    _link(
                        "Workers",
                        "memory",
                        "admin:engine_workerpresence_changelist",
                        sees="workers",
                    ),
                    _link("People", "group", "admin:auth_user_changelist", sees="people"),
                    _link("Tokens", "key", "admin:engine_machinetoken_changelist", sees="people"),
                    _link("Lockouts", "lock", "admin:engine_lockout_changelist", sees="people"),
                    _link("Audit", "history", "admin:engine_auditrecord_changelist", sees="audit"),
                    {"title": "API", "icon": "api", "link": reverse_lazy("docs")},
                ],
            },
        ],
    },
}

#: Where a sign-in leads whose `next` points elsewhere, and where one comes from.
LOGIN_REDIRECT_URL = "admin:index"
LOGIN_URL = "admin:login"

#: Static files are served out of the packages: no `collectstatic` between install and start.
WHITENOISE_USE_FINDERS = True
