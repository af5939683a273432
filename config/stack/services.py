"""The processes of an installation on one machine, as the operations contract names them."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

from config.stack.children import Service
from config.stack.options import DEFAULT_GRACE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from config.stack.options import Ports

HOST = "127.0.0.1"
ORCHESTRATOR_CONCURRENCY = 2
#: Open event streams must not hold up the end of web.
WEB_GRACE_SECONDS = 5
#: On one machine an answer does not wait behind the work it asks about.
WORKER_NICENESS = 5

CELERY = ("celery", "-q", "-A", "config")
# Root is allowed here (a container, a fresh server) and nothing on the broker can execute code.
ROOT_IS_FINE = {"PYTHONWARNINGS": "ignore:You're running the worker with superuser"}
# Their traffic is all they would add: presence is in PostgreSQL, cancelling too.
LEAN = ("--without-gossip", "--without-mingle", "-Ofair")


def all_of(
    *,
    ports: Ports,
    queues: Sequence[str],
    workers: int,
    concurrency: int,
    flower_login: str,
    grace_seconds: float = DEFAULT_GRACE_SECONDS,
) -> list[Service]:
    """Return every service; `flower_login` is `name:password`."""
    of_workers = ROOT_IS_FINE | {"WORKER_GRACE_SECONDS": f"{grace_seconds:g}"}
    return [
        Service(
            name="web",
            command=_python(
                *("uvicorn", "config.asgi:application", "--host", HOST, "--port", str(ports.web)),
                *(
                    "--timeout-graceful-shutdown",
                    str(WEB_GRACE_SECONDS),
                    "--no-access-log",
                    "--http",
                    "config.wire:BoundedProtocol",
                    "--lifespan=off",
                ),
            ),
            port=ports.web,
        ),
        Service(
            name="manager",
            command=(sys.executable, "manage.py", "manager", "--port", str(ports.manager)),
            port=ports.manager,
        ),
        Service(
            name="orchestrator",
            command=_worker(
                "orchestrator", ORCHESTRATOR_CONCURRENCY, ["orchestrator", "dead_letter"]
            ),
            environment=of_workers,
            niceness=WORKER_NICENESS,
        ),
        *(
            Service(
                name=name,
                command=_worker(name, concurrency, queues),
                environment=of_workers
                | {"WORKER_METRICS_PORT": str(ports.worker_metrics(instance))},
                port=ports.worker_metrics(instance),
                niceness=WORKER_NICENESS,
            )
            for instance, name in enumerate(_worker_names(workers))
        ),
        Service(
            name="flower",
            command=_python(
                *(*CELERY, "flower", f"--address={HOST}", f"--port={ports.flower}"),
            ),
            # Not on the command line: every user of the machine can read that.
            environment={"FLOWER_BASIC_AUTH": flower_login},
            port=ports.flower,
        ),
    ]


def taken(services: Sequence[Service]) -> list[Service]:
    """Return the services whose port somebody else listens on."""
    return [service for service in services if service.port and not _is_free(service.port)]


def answers(service: Service) -> bool:
    """Tell whether something listens on the service's port."""
    with socket.socket() as link:
        link.settimeout(0.2)
        return link.connect_ex((HOST, service.port or 0)) == 0


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        # As the servers themselves do: a connection of the last run may linger in TIME_WAIT.
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((HOST, port))
        except OSError:
            return False
    return True


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    # `-m`, not the scripts of the environment: their first line breaks when a checkout is moved.
    return (sys.executable, "-m", module, *arguments)


def _worker(name: str, concurrency: int, queues: Sequence[str]) -> tuple[str, ...]:
    own = ("-Q", ",".join(queues), "-n", f"{name}@%h", "-c", str(concurrency), "-l", "INFO")
    return _python(*CELERY, "worker", *own, *LEAN)


def _worker_names(number: int) -> list[str]:
    return [f"worker{instance + 1}" for instance in range(number)]
