"""Production: secrets come from outside, cookies travel by HTTPS only."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured

from config.environment import flag, integer
from config.settings.base import *
from config.settings.base import JWT_SECRET, MASTER_KEY, SECRET_KEY

#: Below this many characters a secret can be guessed in time; so can one of few different ones.
MIN_SECRET_CHARACTERS, MIN_SECRET_ALPHABET = 32, 8

_secrets = [("SECRET_KEY", SECRET_KEY), *(("MASTER_KEY", part) for part in MASTER_KEY.split(","))]
if JWT_SECRET:
    _secrets.append(("JWT_SECRET", JWT_SECRET))
for _name, _value in _secrets:
    if (
        len(_value.strip()) < MIN_SECRET_CHARACTERS
        or len(set(_value.strip())) < MIN_SECRET_ALPHABET
    ):
        raise ImproperlyConfigured(
            f"{_name} must be set to at least {MIN_SECRET_CHARACTERS} characters, "
            f"{MIN_SECRET_ALPHABET} of them different; make one with: openssl rand -hex 32"
        )
if len({_value.strip() for _, _value in _secrets}) < len(_secrets):
    raise ImproperlyConfigured(
        "SECRET_KEY, MASTER_KEY and JWT_SECRET must differ: who learns one must not have the others"
    )

SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
SECURE_SSL_REDIRECT = flag("SECURE_SSL_REDIRECT", default=True)
SECURE_HSTS_SECONDS = integer("SECURE_HSTS_SECONDS", 31_536_000)
SECURE_HSTS_INCLUDE_SUBDOMAINS = True
SECURE_HSTS_PRELOAD = True
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
LOG_JSON = flag("LOG_JSON", default=True)
