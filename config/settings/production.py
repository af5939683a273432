"""Production: secrets come from outside, cookies travel by HTTPS only."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from config import secret_strength
from config.environment import flag, integer
from config.settings.base import *
from config.settings.base import (
    ALLOWED_HOSTS,
    DATABASES,
    JWT_SECRET,
    MASTER_KEY,
    OWNER_DATABASE,
    REDIS_URL,
    SECRET_KEY,
)

secret_strength.check(
    {
        "SECRET_KEY": [SECRET_KEY],
        "MASTER_KEY": [part.strip() for part in MASTER_KEY.split(",")],
        # Optional: tokens are signed with the keyring's own keys.
        "JWT_SECRET": [JWT_SECRET] if JWT_SECRET else [],
    },
    {
        "DATABASE_URL": DATABASES["default"]["PASSWORD"],
        # Where this process is told it at all: who has it can change the audit trail.
        "DATABASE_OWNER_URL": OWNER_DATABASE["PASSWORD"] if OWNER_DATABASE else "",
        "REDIS_URL": unquote(urlsplit(REDIS_URL).password or ""),
    },
)

SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
SECURE_SSL_REDIRECT = flag("SECURE_SSL_REDIRECT", default=True)
# Prometheus, doctor and whoever restarts web ask it beside the proxy that speaks HTTPS, by its
# address: a redirect or a refused name would be an outage to them.
SECURE_REDIRECT_EXEMPT = [r"^(livez|readyz|health|health/manager|metrics)$"]
ALLOWED_HOSTS = [*ALLOWED_HOSTS, "127.0.0.1", "localhost", "[::1]"]
SECURE_HSTS_SECONDS = integer("SECURE_HSTS_SECONDS", 31_536_000)
SECURE_HSTS_INCLUDE_SUBDOMAINS = True
SECURE_HSTS_PRELOAD = True
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
