"""A real Prometheus and a real Alertmanager beside a running stack."""

from __future__ import annotations

import math
import socket
import subprocess
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import httpx

from tests.acceptance.stack import TLS
from tests.eventually import eventually
from tests.system.observability import rendering
from tests.system.observability.binaries import binary

if TYPE_CHECKING:
    from pathlib import Path

START_SECONDS = 30


class Monitoring:
    """Start both, ask them, end them."""

    def __init__(self, folder: Path, *, shift: int) -> None:
        self.folder = folder
        self.ports = {port: port + shift for port in (8000, 8080, 8090)} | {
            9090: free_port(),
            9093: free_port(),
        }
        self._open = ExitStack()

    def __enter__(self) -> Self:
        """Start both and wait until everything has been scraped."""
        rendering.write(self.folder, ports=self.ports)
        # Cluster traffic off: one of its kind, and nobody else on this machine.
        self._start(
            "alertmanager",
            f"--web.listen-address=127.0.0.1:{self.ports[9093]}",
            "--cluster.listen-address=",
            f"--storage.path={self.folder / 'alertmanager'}",
        )
        self._start(
            "prometheus",
            f"--web.listen-address=127.0.0.1:{self.ports[9090]}",
            f"--storage.tsdb.path={self.folder / 'prometheus'}",
        )
        try:
            eventually(self._answers, within=START_SECONDS, what=f"both; see {self.folder}")
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End both."""
        self._open.close()

    def query(self, expression: str) -> list[float]:
        """Return the values of an instant query, those that are no number left out."""
        return [value for _, value in self.series(expression)]

    def series(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Return labels and value of each series of an instant query that is a number."""
        answer = self._ask(9090, "/api/v1/query", query=expression)
        assert answer["status"] == "success", answer
        result = answer["data"]["result"]
        if answer["data"]["resultType"] == "scalar":
            result = [{"metric": {}, "value": result}]
        found = [(one["metric"], float(one["value"][1])) for one in result]
        return [(labels, value) for labels, value in found if not math.isnan(value)]

    def firing(self) -> set[tuple[str, str]]:
        """Return what Prometheus fires, as (alert, severity)."""
        return {
            (labels["alertname"], labels["severity"])
            for labels, _ in self.series('ALERTS{alertstate="firing"}')
        }

    def told(self) -> set[tuple[str, str]]:
        """Return what people would be told: active in Alertmanager and not inhibited."""
        return {(one["alertname"], one["severity"]) for one in self.told_labels()}

    def told_labels(self) -> list[dict[str, str]]:
        """Return the labels of each alert that people would be told of."""
        found = self._ask(9093, "/api/v2/alerts", active=True, inhibited=False, silenced=False)
        return [one["labels"] for one in found]

    def _ask(self, port: int, path: str, **parameters: Any) -> Any:
        address = f"http://127.0.0.1:{self.ports[port]}{path}"
        answer = httpx.get(address, params=parameters, timeout=10, verify=TLS)
        return answer.raise_for_status().json()

    def _answers(self) -> bool:
        try:
            self.told()
            return len(self.query("up == 1")) >= len(rendering.SCRAPED)
        except httpx.HTTPError:
            return False

    def _start(self, name: str, *options: str) -> None:
        output = self._open.enter_context((self.folder / f"{name}.log").open("wb"))
        process = subprocess.Popen(
            [binary(name), f"--config.file={name}.yml", *options],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        self._open.callback(end, process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, then see to it."""
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
