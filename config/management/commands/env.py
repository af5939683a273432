"""`manage.py env`: what a shell must know to talk to this installation."""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.management.base import BaseCommand

from config.embedded import binaries, provision
from config.embedded.errors import EmbeddedError

if TYPE_CHECKING:
    import argparse

#: libpq's variable → the parameter of a database URL that sets it.
LIBPQ = {"PGSSLMODE": "sslmode", "PGSSLROOTCERT": "sslrootcert", "PGHOST": "host", "PGPORT": "port"}


class Command(BaseCommand):
    help = (
        'Print the variables that make redis-cli, psql and curl in a shell talk to this '
        'installation: eval "$(python manage.py env)"'
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--web-port", type=int, default=None, help="port of web in ENGINE_URL")

    def handle(self, *_args: Any, **options: Any) -> None:
        database_url = os.environ.get("DATABASE_URL", "")
        redis_url = os.environ.get("REDIS_URL", "")
        found = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
        found |= postgres_variables(database_url) | redis_variables(redis_url)
        found["ENGINE_URL"] = f"http://127.0.0.1:{options['web_port'] or _web_port()}"
        for name, value in found.items():
            if value:
                self.stdout.write(f"export {name}={shlex.quote(value)}")
        folders = [folder for folder in _program_folders() if folder not in _path()]
        if folders:
            joined = ":".join(folders)
            self.stdout.write(f'export PATH={shlex.quote(joined)}:"$PATH"')
        for line in redis_cli_function(redis_url):
            self.stdout.write(line)
        idle = [name for name in provision.missing_at_start() if not provision.running(name)]
        if idle:
            sys.stderr.write(f"note: {' and '.join(idle)} not running here yet; start: make run\n")


def postgres_variables(url: str) -> dict[str, str]:
    """Return libpq's variables for a database URL."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    found = {name: query.get(parameter, "") for name, parameter in LIBPQ.items()}
    found["PGHOST"] = found["PGHOST"] or parts.hostname or ""
    found["PGPORT"] = found["PGPORT"] or str(parts.port or "")
    found["PGUSER"] = unquote(parts.username or "")
    found["PGPASSWORD"] = unquote(parts.password or "")
    found["PGDATABASE"] = unquote(parts.path.lstrip("/"))
    return found


def redis_variables(url: str) -> dict[str, str]:
    """Return redis-cli's variable for a Redis URL: it reads the password from the environment only."""
    return {"REDISCLI_AUTH": unquote(urlsplit(url).password or "")}


def redis_cli_function(url: str) -> list[str]:
    """Return a shell function for what redis-cli takes from its command line alone."""
    parts = urlsplit(url)
    flags: list[str] = []
    if parts.hostname not in {None, "127.0.0.1", "localhost"}:
        flags += ["-h", str(parts.hostname)]
    if parts.port not in {None, 6379}:
        flags += ["-p", str(parts.port)]
    if parts.username:
        flags += ["--user", unquote(parts.username)]
    if parts.scheme == "rediss":
        flags.append("--tls")
    if (database := parts.path.strip("/")) not in {"", "0"}:
        flags += ["-n", database]
    return [f'redis-cli() {{ command redis-cli {shlex.join(flags)} "$@"; }}'] if flags else []


def _web_port() -> int:
    return provision.remembered_web_port()


def _program_folders() -> list[str]:
    folders = []
    for finder in (binaries.postgres_folder, binaries.redis_folder):
        try:
            folders.append(str(finder()))
        except EmbeddedError:
            continue
    return folders


def _path() -> list[str]:
    return os.environ.get("PATH", "").split(os.pathsep)
