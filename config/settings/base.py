"""Settings every environment shares. What may be set from outside is read here, once, by name.

`.env.example` lists each variable; `tests/architecture` compares the two.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from config.environment import (
    count,
    database,
    flag,
    integer,
    level,
    networks,
    number,
    rates,
    redis_location,
    text,
    words,
)
from config.logging import FILE_BYTES, GENERATIONS, logging_config
from config.settings.interfaces import *
from config.settings.interfaces import (
    HEADERS_MIDDLEWARE,
    INTERFACE_APPS,
    TELEMETRY_MIDDLEWARE,
)

BASE_DIR = Path(__file__).resolve().parent.parent.parent
VAR_DIR = Path(text("VAR_DIR", str(BASE_DIR / "var"))).resolve()

SECRET_KEY = text("SECRET_KEY", "")
DEBUG = False
ALLOWED_HOSTS = words("ALLOWED_HOSTS", "127.0.0.1,localhost,[::1]")
CSRF_TRUSTED_ORIGINS = words("CSRF_TRUSTED_ORIGINS", "")

INSTALLED_APPS = [
    # First: its `createsuperuser` and `changepassword` are Django's with a record in the trail.
    "config",
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_prometheus",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "corsheaders",
    "csp",
    *INTERFACE_APPS,
    "orchestration",
    "departments",
    "engine",
]
MIDDLEWARE = [
    TELEMETRY_MIDDLEWARE,
    *HEADERS_MIDDLEWARE,
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "engine.admin.malformed.RefuseMalformed",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "engine.audit.middleware.RequestOrigin",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]
ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# PostgreSQL is the truth. Embedded mode puts both URLs into the environment (config.embedded).
DATABASES = {"default": database("DATABASE_URL", pooled=flag("DATABASE_POOL", default=False))}
#: As whom `migrate` makes and changes tables, where that is another role than the application's.
OWNER_DATABASE = (
    database("DATABASE_OWNER_URL", pooled=False) if text("DATABASE_OWNER_URL", "") else None
)
#: How long web, manager and workers wait for an answer of the database, in seconds; then the
#: connection counts as lost. Commands that end by themselves wait as long as it takes.
DATABASE_ANSWER_SECONDS = number("DATABASE_ANSWER_SECONDS", 15.0)
REDIS_URL = redis_location("REDIS_URL")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Celery closes connections after each task unless told otherwise: the largest cost of a step after
# its commits (research/durability.md 3.10). Health is checked by config.celery instead.
CELERY_DB_REUSE_MAX = 10**9

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("MinimumLengthValidator", "CommonPasswordValidator", "NumericPasswordValidator")
]
X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = True
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"

LANGUAGE_CODE = "en-us"
#: Moments as operators compare them, not "Nov. 30, 2026, 8 a.m.".
FORMAT_MODULE_PATH = ["config.formats"]
TIME_ZONE = text("TIME_ZONE", "UTC")
USE_I18N = True
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = VAR_DIR / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    # Artifacts: content-addressed files; a folder every host can read, or S3 by django-storages.
    "artifacts": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": text("ARTIFACTS_DIR", str(VAR_DIR / "artifacts"))},
    },
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
DATA_UPLOAD_MAX_MEMORY_SIZE = integer("MAX_REQUEST_BYTES", 2_500_000)

# --- the engine -----------------------------------------------------------------------------
CATALOG_PACKAGES = ["departments.catalog", *words("CATALOG_PACKAGES", "")]
#: How long a worker holds a claim without a sign of life, in seconds; it renews every third of it.
LEASE_SECONDS = number("LEASE_SECONDS", 30.0)
#: How long a running step may go on after a cancel before its process is ended, in seconds.
CANCEL_GRACE_SECONDS = number("CANCEL_GRACE_SECONDS", 30.0)
#: How long the steps a worker runs may go on after SIGTERM, in seconds; then it ends hard.
WORKER_GRACE_SECONDS = number("WORKER_GRACE_SECONDS", 30.0)
#: A message counts as lost when no queue and no worker has it this long after it was sent, seconds.
LOST_MESSAGE_SECONDS = number("LOST_MESSAGE_SECONDS", 2.0)
#: How long a worker goes on trying to commit a finished step while the database is away, seconds.
COMMIT_PATIENCE_SECONDS = number("COMMIT_PATIENCE_SECONDS", 120.0)
#: Values above this many bytes travel as artifacts.
INLINE_VALUE_BYTES = 64 * 1024
MAX_ARTIFACT_BYTES = integer("MAX_ARTIFACT_BYTES", 100_000_000)

#: Where a worker shows its metrics; 0: nowhere.
WORKER_METRICS_PORT = integer("WORKER_METRICS_PORT", 0)
WORKER_METRICS_ADDRESS = text("WORKER_METRICS_ADDRESS", "127.0.0.1")

# --- browsers -------------------------------------------------------------------------------
#: Whose pages may call the API by script, `https://app.example.org`; each is named, else nobody's.
CORS_ALLOWED_ORIGINS = words("CORS_ALLOWED_ORIGINS", "")

# --- access ---------------------------------------------------------------------------------
#: Seals what is secret in the database. Of several, separated by commas, the first seals and all
#: unseal: put a new one in front.
MASTER_KEY = text("MASTER_KEY", "")
#: Optional: taken on as a key of the keyring when it is first seen (engine/access/README.md).
JWT_SECRET = text("JWT_SECRET", "")
#: How many calls each caller may make, by kind (engine.access.throttling).
THROTTLE_RATES = rates(
    "THROTTLE_RATES", "read=12000/min,write=6000/min,anonymous=600/min,hook=600/min"
)
#: How long a call waits for the counter of calls, in seconds; then it passes uncounted.
THROTTLE_WAIT_SECONDS = number("THROTTLE_WAIT_SECONDS", 0.05)
ACCESS_TOKEN_SECONDS = integer("ACCESS_TOKEN_SECONDS", 900)
REFRESH_TOKEN_SECONDS = integer("REFRESH_TOKEN_SECONDS", 604_800)

# --- webhooks -------------------------------------------------------------------------------
#: Where this API is reached from outside, e.g. https://engine.example.com; links begin with it.
PUBLIC_URL = text("PUBLIC_URL", "")
#: Networks that webhooks may call although they are private, also by http.
WEBHOOK_ALLOWED_NETWORKS = networks("WEBHOOK_ALLOWED_NETWORKS")
#: An endpoint that nothing has reached for so many days is disabled.
WEBHOOK_DISABLE_AFTER_DAYS = number("WEBHOOK_DISABLE_AFTER_DAYS", 3.0)
#: Finished deliveries stay in the log for so many days.
WEBHOOK_LOG_DAYS = number("WEBHOOK_LOG_DAYS", 30.0)

# --- streams --------------------------------------------------------------------------------
#: How often a stream says that it is alive, in seconds.
STREAM_HEARTBEAT_SECONDS = number("STREAM_HEARTBEAT_SECONDS", 15.0)
#: How many streams a web process serves, and how many of them are one subject's.
STREAMS_PER_PROCESS = integer("STREAMS_PER_PROCESS", 1_000)
STREAMS_PER_SUBJECT = integer("STREAMS_PER_SUBJECT", 500)

# --- logs -----------------------------------------------------------------------------------
LOG_LEVEL = level("LOG_LEVEL", "INFO")
LOGGING = logging_config(
    level=LOG_LEVEL,
    directory=VAR_DIR / "log",
    # Unset: for people on a terminal, JSON wherever something collects it.
    json=flag("LOG_JSON", default=False) if text("LOG_JSON", "") else None,
    limit_bytes=count("LOG_FILE_BYTES", FILE_BYTES),
    generations=count("LOG_FILE_GENERATIONS", GENERATIONS),
    more_fields=words("LOG_FIELDS", ""),
    error_texts=flag("LOG_ERROR_TEXT", default=False),
)
PROMETHEUS_EXPORT_MIGRATIONS = False
