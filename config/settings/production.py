"""Production: secrets come from outside, cookies travel by HTTPS only."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured

from config.environment import flag, integer
from config.settings.base import *
from config.settings.base import JWT_SECRET, MASTER_KEY, SECRET_KEY

#: Below this many characters a secret can be guessed in time.
MIN_SECRET_CHARACTERS = 32

for _name, _value in {
    "SECRET_KEY": SECRET_KEY,
    "JWT_SECRET": JWT_SECRET,
    "MASTER_KEY": MASTER_KEY,
}.items():
    if len(_value) < MIN_SECRET_CHARACTERS:
        raise ImproperlyConfigured(
            f"{_name} must be set to at least {MIN_SECRET_CHARACTERS} characters; "
            "make one with: openssl rand -hex 32"
        )

SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
SECURE_SSL_REDIRECT = flag("SECURE_SSL_REDIRECT", default=True)
SECURE_HSTS_SECONDS = integer("SECURE_HSTS_SECONDS", 31_536_000)
SECURE_HSTS_INCLUDE_SUBDOMAINS = True
SECURE_HSTS_PRELOAD = True
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
LOG_JSON = flag("LOG_JSON", default=True)
