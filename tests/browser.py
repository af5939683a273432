"""A real Chromium without a window, steered by its DevTools protocol; no driver to install."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import urllib.request
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Self

import pytest
from websockets.sync.client import connect

from tests.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BINARIES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LOAD_SECONDS = 30
#: A page that says nothing for so long, and asks for nothing, has come to rest.
REST_SECONDS = 0.3
#: Violations as the page itself hears of them, also those no console shows.
WATCH = """
window.__violations = [];
document.addEventListener('securitypolicyviolation', event => window.__violations.push(
    event.effectiveDirective + ' ' + event.blockedURI + ' ' + (event.sample || '')), true);
"""


def binary() -> str:
    """Return the browser; without one skip loudly, in CI fail."""
    found = next((path for name in BINARIES if (path := shutil.which(name))), None)
    if found is None:
        remedy = "no Chromium on PATH, so no page was looked at: apt-get install -y chromium"
        if os.environ.get("CI"):
            pytest.fail(remedy)
        pytest.skip(remedy)
    return found


class Page:
    """One tab: go somewhere, ask it something, hear what it complains of."""

    def __init__(self, address: str) -> None:
        self._open = ExitStack()
        link = connect(address, max_size=None, open_timeout=LOAD_SECONDS)
        self._link = self._open.enter_context(link)
        self._ids = itertools.count(1)
        self._loaded = False
        self._answers: dict[int, dict[str, Any]] = {}
        #: Answer headers → other headers, for documents; None leaves them as they are.
        self.rewrite: Callable[[dict[str, str]], dict[str, str]] | None = None
        self.errors: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
        pattern = {"urlPattern": "*", "resourceType": "Document", "requestStage": "Response"}
        self.call("Fetch.enable", patterns=[pattern])

    def close(self) -> None:
        """End the conversation."""
        self._open.close()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result; events meanwhile are taken note of."""
        number = next(self._ids)
        self._send(number, method, parameters)
        # Events are answered by calls of their own, which may hear what this one waits for.
        while number not in self._answers:
            self._hear(LOAD_SECONDS)
        said = self._answers.pop(number)
        if "error" in said:
            raise AssertionError(f"{method}: {said['error']}")
        return said["result"]

    def open(self, url: str) -> None:
        """Go to an address and wait until it has loaded."""
        self._go(lambda: self.call("Page.navigate", url=url))

    def _go(self, act: Callable[[], object]) -> None:
        self._loaded = False
        act()
        while not self._loaded:
            self._hear(LOAD_SECONDS)
        with suppress(TimeoutError):
            while True:
                self._hear(REST_SECONDS)

    def submit(self, script: str) -> None:
        """Do something in the page that leads to another one, and wait for that."""
        self._go(lambda: self.call("Runtime.evaluate", expression=script))

    def ask(self, script: str) -> Any:
        """Return what an expression is in the page."""
        found = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in found:
            raise AssertionError(found["exceptionDetails"])
        return found["result"].get("value")

    def complaints(self) -> list[str]:
        """Return errors of the console and violations of the policy since the last time."""
        found = self.errors + [f"violates {text}" for text in self.ask("window.__violations") or []]
        self.errors = []
        return found

    def picture(self, path: Path) -> None:
        """Save what it looks like."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def _send(self, number: int, method: str, parameters: dict[str, Any]) -> None:
        self._link.send(json.dumps({"id": number, "method": method, "params": parameters}))

    def _hear(self, seconds: float) -> None:
        said: dict[str, Any] = json.loads(self._link.recv(timeout=seconds))
        if "id" in said:
            self._answers[said["id"]] = said
        given = said.get("params", {})
        match said.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Runtime.exceptionThrown":
                details = given["exceptionDetails"]
                thrown = details.get("exception", {}).get("description", "")
                self.errors.append(f"throws {details['text']} {thrown}")
            case "Runtime.consoleAPICalled" if given["type"] in {"error", "assert"}:
                words = [str(part.get("value", part.get("description"))) for part in given["args"]]
                self.errors.append(f"console {' '.join(words)}")
            case "Log.entryAdded" if given["entry"]["level"] == "error":
                entry = given["entry"]
                self.errors.append(f"log {entry['text']} {entry.get('url', '')}")
            case "Fetch.requestPaused":
                self._continue(given)

    def _continue(self, paused: dict[str, Any]) -> None:
        paused_id, status = paused["requestId"], paused.get("responseStatusCode", 0)
        if self.rewrite is None or status != 200:
            self.call("Fetch.continueRequest", requestId=paused_id)
            return
        body = self.call("Fetch.getResponseBody", requestId=paused_id)
        assert body["base64Encoded"]
        headers = {it["name"].lower(): it["value"] for it in paused["responseHeaders"]}
        self.call(
            "Fetch.fulfillRequest",
            requestId=paused_id,
            responseCode=status,
            body=body["body"],
            responseHeaders=[
                {"name": name, "value": value} for name, value in self.rewrite(headers).items()
            ],
        )


class Browser:
    """A Chromium of its own, with a profile that is thrown away."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = subprocess.Popen(
            [
                binary(),
                "--headless=new",
                "--no-sandbox",  # root has no user namespaces here; pages are our own
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--window-size=1440,1000",
                "--remote-debugging-port=0",
                f"--user-data-dir={folder}",
                "about:blank",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._pages: list[Page] = []

    def __enter__(self) -> Self:
        port = self._folder / "DevToolsActivePort"
        eventually(
            lambda: port.exists() and port.read_text().strip(), within=60, what="Chromium listens"
        )
        self._port = int(port.read_text().split()[0])
        return self

    def __exit__(self, *_error: object) -> None:
        for page in self._pages:
            page.close()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)

    def page(self) -> Page:
        """Open a tab."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/json/new?about:blank", method="PUT"
        )
        with urllib.request.urlopen(request, timeout=LOAD_SECONDS) as answer:  # noqa: S310 - same
            found = Page(json.load(answer)["webSocketDebuggerUrl"])
        self._pages.append(found)
        return found
