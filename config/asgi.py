"""The ASGI entry: what the web process serves."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")
# Connections come from a pool and go back to it after each request: fewer than there are threads.
# Everywhere else threads live long and keep their connection.
os.environ.setdefault("DATABASE_POOL", "1")
django.setup(set_prefix=False)

from django.conf import settings  # noqa: E402 - set up above
from django.urls import get_resolver  # noqa: E402 - same

from config.serving import Handler  # noqa: E402 - needs the settings
from engine import tracing  # noqa: E402 - same
from engine.postgresql import bounded  # noqa: E402 - same
from orchestration import garbage  # noqa: E402 - same

bounded.bound_answers(settings.DATABASE_ANSWER_SECONDS)
tracing.play("web")
application = Handler()
_ = get_resolver().url_patterns  # the views too, which Django would load with the first request
garbage.pass_over_startup()
