"""Run one embedded PostgreSQL: a Unix socket in a private folder, no TCP, full durability."""

import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import psycopg

from config.embedded import accounts, binaries, layout, processes
from config.embedded.errors import EmbeddedError
from engine.postgresql import roles

#: Owner of database and tables; what works with them signs in as `roles.APPLICATION`.
USER = "engine"
DATABASE = "engine"
INIT_SECONDS = 120
SETTLE_SECONDS = 10
ORPHAN_SECONDS = 10
# postmaster.pid: the first line is the pid, the eighth the state `pg_ctl --wait` reads.
STATE_LINE = 7

SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "wal_compression": "on",
    "checkpoint_timeout": "15min",
    "max_wal_size": "2GB",
    "idle_in_transaction_session_timeout": "30s",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    # Statements here are short; compiling them costs more than running them.
    "jit": "off",
}
# Only for throw-away servers: a power cut would cost the data.
CARELESS_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
}


class Postgres:
    """Know how PostgreSQL is prepared, started, found ready and stopped."""

    name = "postgres"
    title = "PostgreSQL"
    log_follows_name = False
    # Fast shutdown: roll back what is open, write a checkpoint, go.
    stop_signal = signal.SIGINT

    def __init__(self, rooms: layout.Layout, *, durable: bool = True) -> None:
        """Find the binaries and the account; nothing is started yet."""
        self.rooms = rooms
        self.durable = durable
        self.programs = binaries.postgres()
        self.account = accounts.choose(rooms=rooms, programs=self.programs)
        self.log = rooms.log_dir / "postgresql.log"

    @property
    def version(self) -> str:
        """Return the server's version."""
        return self.programs.version

    @property
    def url(self) -> str:
        """Return the URL clients connect by: as the application, which owns nothing."""
        return url_of(self.account.socket_dir)

    @property
    def owner_url(self) -> str:
        """Return the URL by which tables are made and changed."""
        return url_of(self.account.socket_dir, user=USER)

    def settle(self) -> None:
        """Make the application's role, and give it its rights in what is there.

        At every start, so that data of before it was there is converted by the next one.
        """
        try:
            with psycopg.connect(self.owner_url, connect_timeout=SETTLE_SECONDS) as link:
                link.execute(roles.create(roles.APPLICATION))
                wanted = [*roles.APPEND_ONLY, *roles.READ_ONLY]
                tables = {name for (name,) in link.execute(roles.EXISTING, [wanted]).fetchall()}
                for statement in roles.grants(roles.APPLICATION, tables=tables):
                    link.execute(statement)
        except psycopg.Error as error:
            first = str(error).strip().partition("\n")[0]
            message = f"cannot give the application's role its rights: {first}"
            raise EmbeddedError(message) from error

    def prepare(self) -> None:
        """Make the cluster on first use; clear what a dead server left behind."""
        data = self.account.data_dir
        if (data / "PG_VERSION").exists():
            self._refuse_other_major()
            self._clear_stale()
        else:
            self._create_cluster()

    def command(self) -> tuple[list[str], dict[str, Any]]:
        """Return the command line of the server and the options to start it with."""
        # The value is a list of names: quoted, or a comma in a folder's name would split it.
        folder = str(self.account.socket_dir).replace('"', '""')
        settings = SETTINGS | {"unix_socket_directories": f'"{folder}"'}
        if not self.durable:
            settings |= CARELESS_SETTINGS
        command = [str(self.account.bin_dir / "postgres"), "-D", str(self.account.data_dir)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        layout.rotate_log(self.log)
        return command, self.account.options(parent_death=self.stop_signal)

    def ready(self, pid: int) -> bool:
        """Tell whether the server with this pid accepts connections."""
        try:
            lines = (self.account.data_dir / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return (
            len(lines) > STATE_LINE
            and lines[0] == str(pid)
            and lines[STATE_LINE].strip() == "ready"
        )

    def _refuse_other_major(self) -> None:
        written = (self.account.data_dir / "PG_VERSION").read_text().strip()
        ours = self.version.split(".")[0]
        if written == ours:
            return
        raise EmbeddedError(
            f"{self.account.data_dir} was written by PostgreSQL {written} and this is {ours}: "
            "move it aside and restore a backup, or reinstall the requirements it was made with"
        )

    def _create_cluster(self) -> None:
        data = self.account.data_dir
        if data.is_dir() and any(data.iterdir()):
            message = f"{data} is not empty and holds no PostgreSQL data: move it aside"
            raise EmbeddedError(message)
        # Made beside its place and moved when whole: a kill half-way leaves nothing half-made.
        fresh = data.with_name(f"{data.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        self.account.own(fresh)
        self._run(
            [
                "initdb",
                f"--pgdata={fresh}",
                f"--username={USER}",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--no-instructions",
                *([] if self.durable else ["--no-sync"]),
            ]
        )
        self._run(
            [
                "postgres",
                "--single",
                "-D",
                str(fresh),
                *([] if self.durable else ["-F"]),
                "postgres",
            ],
            text=f"CREATE DATABASE {DATABASE};\n",
        )
        if data.exists():
            data.rmdir()
        fresh.rename(data)

    def _run(self, command: list[str], *, text: str = "") -> None:
        program = str(self.account.bin_dir / command[0])
        try:
            done = subprocess.run(
                [program, *command[1:]],
                input=text,
                capture_output=True,
                text=True,
                timeout=INIT_SECONDS,
                check=False,
                **self.account.options(),
            )
        except (OSError, subprocess.SubprocessError) as error:
            message = f"cannot run PostgreSQL's {command[0]}: {error}"
            raise EmbeddedError(message) from error
        with self.log.open("a", encoding="utf-8") as log:
            log.write(done.stdout + done.stderr)
        if done.returncode != 0:
            said = " ".join(done.stderr.split())[-300:]
            message = f"PostgreSQL's {command[0]} failed: {said} (log: {self.log})"
            raise EmbeddedError(message)

    def _clear_stale(self) -> None:
        """End a server nobody keeps any more; remove its lock files once nothing of it lives.

        PostgreSQL believes a lock file as long as any process has the pid in it, also one that got
        the pid after a crash or a reboot. Removing the file while a process of the old server
        still uses the shared memory would destroy data, so first none may be left.
        """
        data = self.account.data_dir
        deadline = time.monotonic() + ORPHAN_SECONDS
        while (mine := _processes_in(data)) and time.monotonic() < deadline:
            for process in mine:
                # Only the first process takes SIGINT for "stop"; its children leave when it does.
                if process.ppid() not in {other.pid for other in mine}:
                    processes.end(process, first=self.stop_signal, grace_seconds=ORPHAN_SECONDS)
            time.sleep(processes.POLL_SECONDS)
        if mine:
            pids = ", ".join(str(process.pid) for process in mine)
            message = (
                f"PostgreSQL processes of {data} do not end (pids {pids}): end them, then try again"
            )
            raise EmbeddedError(message)
        (data / "postmaster.pid").unlink(missing_ok=True)
        socket = self.account.socket_dir / layout.POSTGRES_SOCKET_NAME
        socket.unlink(missing_ok=True)
        socket.with_name(f"{socket.name}.lock").unlink(missing_ok=True)


def url_of(socket_dir: Path, *, user: str = roles.APPLICATION) -> str:
    """Return the URL of the database behind a socket in this folder."""
    return f"postgresql://{user}@/{DATABASE}?host={quote(str(socket_dir), safe='/')}"


def _processes_in(data: Path) -> list[psutil.Process]:
    """Return the PostgreSQL processes whose current folder is this data directory."""
    found = []
    for process in psutil.process_iter(["name"]):
        try:
            ours = (process.info["name"] or "").startswith("postgres")
            if ours and Path(process.cwd()) == data.resolve():
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found
