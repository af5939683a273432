"""The ASGI entry: what the web process serves."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")
# Each request runs in a thread of its own here: connections come from a pool and go back to it.
# Everywhere else threads live long and keep their connection.
os.environ.setdefault("DATABASE_POOL", "1")
application = get_asgi_application()
