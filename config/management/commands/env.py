"""`manage.py env`: what a shell must know to talk to this installation."""

from __future__ import annotations

import os
from typing import Any

from django.core.management.base import BaseCommand

from config.embedded import provision
from config.stack import shell, startup


class Command(BaseCommand):
    help = (
        "Print the variables that make redis-cli, psql and curl in a shell talk to this "
        'installation: eval "$(python manage.py env)"'
    )
    requires_system_checks = []

    def handle(self, *_args: Any, **_options: Any) -> None:
        rooms = provision.rooms()
        rooms.prepare()
        lines = shell.exports(
            rooms=rooms,
            ports=startup.remembered_ports(),
            database_url=os.environ.get("DATABASE_URL", ""),
            redis_url=os.environ.get("REDIS_URL", ""),
            owner_url=os.environ.get(provision.OWNER_VARIABLE, ""),
        )
        for line in lines:
            self.stdout.write(line)
        idle = [startup.TITLES[name] for name in provision.idle()]
        if idle:
            self.stderr.write(f"note: {' and '.join(idle)} not running here yet: make run")
