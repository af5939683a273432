"""Choose under which account PostgreSQL runs: it refuses to run as root.

An ordinary user runs it as himself. Root runs it in a user namespace in which root's files belong
to an ordinary user, so the data may lie anywhere, below a 0700 home too. Where the machine refuses
namespaces (many containers), a system user runs a copy of the binaries on data below /var/lib.
"""

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from config.embedded import binaries, layout, processes
from config.embedded.errors import EmbeddedError

CLONE_NEWUSER = 0x10000000
NOBODY_UID = 65534
SYSTEM_USER = "ai-business-engine"
SYSTEM_HOME = Path("/var/lib/ai-business-engine")
USERADD_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class Account:
    """Say how a PostgreSQL program is started, and from where."""

    data_dir: Path
    socket_dir: Path
    bin_dir: Path
    namespace_user: pwd.struct_passwd | None = None
    system_user: pwd.struct_passwd | None = None

    def options(self, *, parent_death: signal.Signals | None = None) -> dict[str, Any]:
        """Return the keyword arguments for `subprocess` that start a program under this account."""
        steps: list[Callable[[], None]] = []
        if self.namespace_user:
            steps.append(_enter_namespace(self.namespace_user))
        if parent_death:  # after the namespace: the kernel forgets it when credentials change
            steps.append(processes.die_with_parent(parent_death))
        options: dict[str, Any] = {"cwd": "/"}
        if steps:
            options["preexec_fn"] = lambda: [step() for step in steps]
        if self.system_user:
            options |= {
                "user": self.system_user.pw_uid,
                "group": self.system_user.pw_gid,
                "extra_groups": [],
            }
        return options

    def own(self, path: Path) -> None:
        """Create a 0700 folder that PostgreSQL can use under this account."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.system_user:
            os.chown(path, self.system_user.pw_uid, self.system_user.pw_gid)


def choose(*, rooms: layout.Layout, programs: binaries.Binaries) -> Account:
    """Return the account this machine allows for the data of `rooms`."""
    if os.geteuid() == 0:
        ordinary = _ordinary_user()
        if ordinary is None or not _namespaces_work(ordinary):
            return _system_account(rooms=rooms, programs=programs)
    else:
        ordinary = None
    return Account(
        data_dir=rooms.postgres_dir,
        socket_dir=rooms.socket_dir(),
        bin_dir=programs.folder,
        namespace_user=ordinary,
    )


def _ordinary_user() -> pwd.struct_passwd | None:
    """Return a user to appear as inside the namespace; initdb wants one that /etc/passwd knows."""
    known = [entry for entry in pwd.getpwall() if 0 < entry.pw_uid < NOBODY_UID]
    return min(known, key=lambda entry: entry.pw_uid, default=None)


def _enter_namespace(inside: pwd.struct_passwd) -> Callable[[], None]:
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.geteuid(), os.getegid()

    def enter() -> None:
        if libc.unshare(CLONE_NEWUSER) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{inside.pw_uid} {uid} 1"),
            ("gid_map", f"{inside.pw_gid} {gid} 1"),
        ):
            Path(f"/proc/self/{name}").write_text(text, encoding="ascii")

    return enter


def _namespaces_work(user: pwd.struct_passwd) -> bool:
    if sys.platform != "linux":
        return False
    try:
        subprocess.run(
            ["true"],
            check=True,
            preexec_fn=_enter_namespace(user),
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def _system_account(*, rooms: layout.Layout, programs: binaries.Binaries) -> Account:
    user = _system_user()
    # One place per checkout; two checkouts of root never meet.
    place = SYSTEM_HOME / sha256(os.fsencode(rooms.var_dir.resolve())).hexdigest()[:12]
    # The checkout may lie below a 0700 home where the system user cannot read the wheel.
    programs_copy = SYSTEM_HOME / f"postgresql-{programs.version}"
    package = programs.folder.parents[1]
    install = programs.folder.parent.name
    SYSTEM_HOME.mkdir(mode=0o755, exist_ok=True)
    if not programs_copy.exists():
        partial = SYSTEM_HOME / f"{programs_copy.name}.{os.getpid()}.new"
        shutil.copytree(programs.folder.parent, partial / package.name / install, symlinks=True)
        # The binaries look for their libraries here, relative to themselves (RPATH).
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, partial / libraries.name)
        partial.chmod(0o755)
        partial.replace(programs_copy)
    account = Account(
        data_dir=place / "postgres",
        socket_dir=place / "run",
        bin_dir=programs_copy / package.name / install / "bin",
        system_user=user,
    )
    account.own(place)
    account.own(account.socket_dir)
    return account


def _system_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        pass
    try:
        subprocess.run(
            [
                "useradd",
                "--system",
                "--home-dir",
                SYSTEM_HOME,
                "--shell",
                "/usr/sbin/nologin",
                SYSTEM_USER,
            ],
            check=True,
            capture_output=True,
            timeout=USERADD_SECONDS,
        )
        return pwd.getpwnam(SYSTEM_USER)
    except (OSError, subprocess.SubprocessError, KeyError) as error:
        message = (
            "PostgreSQL refuses to run as root and no other account could be made here: "
            "run as an ordinary user, or set DATABASE_URL"
        )
        raise EmbeddedError(message) from error
