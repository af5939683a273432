"""Where the embedded servers keep their files.

Everything lives below one folder, `var/`. Nothing lives at a guessable path in a shared temporary
folder, so neither a second user of the machine nor a hostile one can get in the way.
"""

import os
import pwd
import socket
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from config.embedded.errors import EmbeddedError

PROJECT_DIR = Path(__file__).resolve().parents[2]
DEFAULT_VAR_DIR = PROJECT_DIR / "var"

# sockaddr_un.sun_path holds 108 bytes on Linux and 104 on macOS, the closing zero included.
SOCKET_PATH_BYTES = 103
POSTGRES_SOCKET_NAME = ".s.PGSQL.5432"

#: Bank statements, reports, logs, secrets: nothing here is another user's business. `var/` itself
#: stays as it is where it exists: VAR_DIR may name a folder that holds more than this.
PRIVATE_FOLDERS = ("artifacts", "log", "redis", "reports", "run", "secrets")

LOG_ROTATE_BYTES = 20 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Name every path below one `var/` folder."""

    var_dir: Path

    @property
    def run_dir(self) -> Path:
        """Hold lock files, process records and the socket: what a reboot may clear."""
        return self.var_dir / "run"

    @property
    def log_dir(self) -> Path:
        """Hold the logs of the servers and of the processes."""
        return self.var_dir / "log"

    @property
    def postgres_dir(self) -> Path:
        """Hold the database cluster."""
        return self.var_dir / "postgres"

    @property
    def redis_dir(self) -> Path:
        """Hold the append-only file, the password and the port in use."""
        return self.var_dir / "redis"

    def prepare(self) -> None:
        """Create the folders; refuse a `var/` of somebody else."""
        try:
            self.var_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            _refuse_foreign(self.var_dir)
            for name in PRIVATE_FOLDERS:
                private = self.var_dir / name
                private.mkdir(mode=0o700, exist_ok=True)
                private.chmod(0o700)
        except OSError as error:
            message = f"cannot write to {self.var_dir}: {error.strerror}"
            raise EmbeddedError(message) from error

    def socket_dir(self) -> Path:
        """Return a private folder whose path is short enough for a Unix socket."""
        beside = self.run_dir / "pg"
        if _fits(beside):
            beside.mkdir(mode=0o700, exist_ok=True)
            if _accepts_sockets(beside):
                return beside
        return self._remembered_short_dir()

    def _remembered_short_dir(self) -> Path:
        memory = self.run_dir / "socket_dir"
        if memory.exists():
            known = Path(memory.read_text(encoding="utf-8").strip())
            if _is_private(known):
                return known
        # mkdtemp makes the folder itself, 0700, under a random name: nobody can have prepared it.
        created = Path(tempfile.mkdtemp(prefix="aibe-", dir=_short_parent()))
        write_private(memory, f"{created}\n")
        return created


def write_private(path: Path, text: str) -> None:
    """Write a file only its owner can read, whole or not at all."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
    partial.replace(path)


def rotate_log(path: Path) -> None:
    """Keep one earlier generation of a log that has grown large."""
    if path.exists() and path.stat().st_size > LOG_ROTATE_BYTES:
        path.replace(path.with_name(f"{path.name}.1"))


def _refuse_foreign(path: Path) -> None:
    owner = path.stat().st_uid
    if owner == os.geteuid():
        return
    try:
        name = pwd.getpwuid(owner).pw_name
    except KeyError:
        name = f"uid {owner}"
    raise EmbeddedError(
        f"{path} belongs to {name}: run as {name}, use another checkout, "
        "or set DATABASE_URL and REDIS_URL"
    )


def _fits(folder: Path) -> bool:
    # libpq takes a comma for the end of one host and the begin of the next.
    short = len(os.fsencode(folder / POSTGRES_SOCKET_NAME)) <= SOCKET_PATH_BYTES
    return short and "," not in str(folder)


def _accepts_sockets(folder: Path) -> bool:
    """Tell whether sockets can be made here: some shared and network file systems refuse them."""
    probe = folder / f"probe.{os.getpid()}"
    try:
        with socket.socket(socket.AF_UNIX) as tried:
            tried.bind(str(probe))
    except OSError:
        return False
    finally:
        probe.unlink(missing_ok=True)
    return True


def _is_private(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except OSError:
        return False
    return (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == os.geteuid()
        and stat.S_IMODE(found.st_mode) == stat.S_IRWXU
    )


def _short_parent() -> str:
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    # XDG_RUNTIME_DIR survives `su` and may then belong to somebody else.
    if runtime and _is_private(Path(runtime)) and _fits(Path(runtime) / "aibe-12345678"):
        return runtime
    return "/tmp"  # noqa: S108 - only ever the parent of a folder made by mkdtemp # nosec B108
