"""F's Django: one application with two tables, and connections that stay open."""

from __future__ import annotations

import os
from urllib.parse import parse_qs, urlsplit

DATABASE = "bench_durable"
_host = parse_qs(urlsplit(os.environ["DATABASE_URL"]).query).get("host", [""])[0]
_parts = urlsplit(os.environ["DATABASE_URL"])

SECRET_KEY = "bench"
INSTALLED_APPS = ["tests.bench.baseline.rows"]
MIGRATION_MODULES = {"rows": None}
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": DATABASE,
        "USER": _parts.username or "",
        "PASSWORD": _parts.password or "",
        "HOST": _host or _parts.hostname or "",
        "PORT": str(_parts.port or ""),
        "CONN_MAX_AGE": None,
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
