"""What a shell must know so that redis-cli, psql and curl talk to this installation."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from config.embedded import binaries, layout
from config.embedded.errors import EmbeddedError
from config.stack import options

if TYPE_CHECKING:
    from collections.abc import Mapping

#: libpq's variable → the parameter of a database URL that sets it.
LIBPQ = {"PGSSLMODE": "sslmode", "PGSSLROOTCERT": "sslrootcert", "PGHOST": "host", "PGPORT": "port"}
LOCAL_HOSTS = ("localhost", "127.0.0.1")


def exports(
    *,
    rooms: layout.Layout,
    ports: options.Ports,
    database_url: str,
    redis_url: str,
    owner_url: str = "",
) -> list[str]:
    """Return lines for `eval`, quoted for any POSIX shell; writes wrappers below `var/run`."""
    found = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
    # psql signs in as the application; migrate, and psql "$DATABASE_OWNER_URL", as the owner.
    found["DATABASE_OWNER_URL"] = owner_url
    found |= postgres_variables(database_url)
    # redis-cli takes the password from here only; on a command line everybody could read it.
    found["REDISCLI_AUTH"] = unquote(urlsplit(redis_url).password or "")
    found["ENGINE_URL"] = f"http://127.0.0.1:{ports.web}"
    found["CURL_HOME"] = _curl_home(rooms=rooms, ports=ports)
    lines = [f"export {name}={shlex.quote(value)}" for name, value in found.items() if value]
    folders = _program_folders(rooms=rooms, redis_url=redis_url)
    if folders:
        lines.append(f'export PATH={shlex.quote(":".join(folders))}:"$PATH"')
    return lines


def postgres_variables(url: str) -> dict[str, str]:
    """Return libpq's variables for a database URL; empty ones mean libpq's default."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    found = {name: query.get(parameter, "") for name, parameter in LIBPQ.items()}
    return found | {
        "PGHOST": found["PGHOST"] or parts.hostname or "",
        "PGPORT": found["PGPORT"] or str(parts.port or ""),
        "PGUSER": unquote(parts.username or ""),
        "PGPASSWORD": unquote(parts.password or ""),
        "PGDATABASE": unquote(parts.path.lstrip("/")),
    }


def redis_flags(url: str) -> list[str]:
    """Return what redis-cli takes from its command line alone."""
    parts = urlsplit(url)
    flags: list[str] = []
    if parts.scheme == "unix":
        return ["-s", parts.path]
    if parts.hostname and parts.hostname not in LOCAL_HOSTS:
        flags += ["-h", parts.hostname]
    if parts.port and parts.port != options.REDIS_PORT:
        flags += ["-p", str(parts.port)]
    if parts.username:
        flags += ["--user", unquote(parts.username)]
    if parts.scheme == "rediss":
        flags.append("--tls")
    if (database := parts.path.strip("/")) not in {"", "0"}:
        flags += ["-n", database]
    return flags


def _program_folders(*, rooms: layout.Layout, redis_url: str) -> list[str]:
    folders: list[str] = []
    flags = redis_flags(redis_url)
    client = _redis_client()
    if flags and client:
        # A file, not a function: `redis-cli` is no name for a function in a plain POSIX shell.
        wrapper = _private_folder(rooms.run_dir / "bin") / "redis-cli"
        text = f'#!/bin/sh\nexec {shlex.quote(str(client))} {shlex.join(flags)} "$@"\n'
        layout.write_private(wrapper, text)
        wrapper.chmod(0o700)
        folders.append(str(wrapper.parent))
    elif client and not shutil.which("redis-cli"):
        folders.append(str(client.parent))
    # Without the wheel it is the psql of the machine, if any.
    with contextlib.suppress(EmbeddedError):
        folders.append(str(binaries.postgres().folder))
    return folders


def _redis_client() -> Path | None:
    found = shutil.which("redis-cli")
    if found and "/run/bin/" not in found:
        return Path(found)
    try:
        beside = binaries.redis().folder / "redis-cli"
    except EmbeddedError:
        return None
    return beside if beside.exists() else None


def _curl_home(*, rooms: layout.Layout, ports: options.Ports) -> str:
    """Return a folder whose `.curlrc` leads the documented ports to the shifted ones."""
    if not ports.shift:
        return ""
    folder = _private_folder(rooms.run_dir / "curl")
    usual = options.Ports()
    pairs = (
        (usual.web, ports.web),
        (usual.manager, ports.manager),
        (usual.worker_metrics(0), ports.worker_metrics(0)),
        (usual.flower, ports.flower),
    )
    lines = [
        f'connect-to = "{host}:{known}:127.0.0.1:{real}"'
        for known, real in pairs
        for host in LOCAL_HOSTS
    ]
    own = _own_curlrc(os.environ, instead=folder)
    layout.write_private(folder / ".curlrc", "\n".join([*own, *lines, ""]))
    return str(folder)


def _own_curlrc(environment: Mapping[str, str], *, instead: Path) -> list[str]:
    """Return the user's own curl settings, which CURL_HOME would hide."""
    home = environment.get("CURL_HOME") or environment.get("HOME") or ""
    if not home or Path(home) == instead:
        return []
    try:
        return (Path(home) / ".curlrc").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _private_folder(folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
