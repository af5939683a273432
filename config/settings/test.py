"""Tests: fixed secrets, short leases, a catalog of steps that misbehave on purpose."""

from __future__ import annotations

import os

from config.environment import rates, words
from config.settings.base import *

SECRET_KEY = "a-key-that-only-tests-ever-use-0123456789abcdef"  # of tests # nosec B105
MASTER_KEY = "a-master-key-that-only-tests-ever-use-0123456789"
JWT_SECRET = "a-jwt-key-that-only-tests-ever-use-0123456789"  # of tests # nosec B105
CATALOG_PACKAGES = ["departments.catalog", "tests.catalog", *words("CATALOG_PACKAGES", "")]
LEASE_SECONDS = float(os.environ.get("LEASE_SECONDS", "3"))
#: Tests ask more often than anybody, all from one address; those of the throttle say their own.
THROTTLE_RATES = rates(
    "THROTTLE_RATES", "read=100000/min,write=100000/min,anonymous=100000/min,hook=100000/min"
)
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
ALLOWED_HOSTS = ["*"]
