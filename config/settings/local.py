"""One machine, one command: what `make run` uses. Secrets are made once and kept in `var/`."""

from __future__ import annotations

from config.local_secrets import kept_secret, known_secret
from config.settings.base import *
from config.settings.base import JWT_SECRET, MASTER_KEY, SECRET_KEY, VAR_DIR

SECRET_KEY = SECRET_KEY or kept_secret(VAR_DIR / "secrets" / "secret_key")
MASTER_KEY = MASTER_KEY or kept_secret(VAR_DIR / "secrets" / "master_key")
# Installations that were made before the keyring have one; its tokens stay good.
JWT_SECRET = JWT_SECRET or known_secret(VAR_DIR / "secrets" / "jwt_secret")
