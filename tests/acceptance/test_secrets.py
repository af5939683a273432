"""A canary in every credential, and everywhere a secret could come out again looked through.

Every secret is used as it is meant to be, and misused where people misuse them: in the wrong field,
in a query, in a body that is refused. Then the database's dump, every key of Redis, every log, the
answers of API, admin and commands, and the arguments of all processes are searched.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit

import httpx
import psutil
import pytest

from config.embedded import binaries
from tests.acceptance.stack import TLS, Stack

pytestmark = pytest.mark.timeout(400)

NAME = "keeper"


def canary(what: str) -> str:
    """Return a secret that is strong, and known again wherever it turns up."""
    return f"cnry{what}{secrets.token_hex(20)}"


class Searched:
    """What was looked through, and what was found in it."""

    def __init__(self, canaries: dict[str, str]) -> None:
        self.found: list[str] = []
        self.bytes: dict[str, int] = {}
        self._marks: list[tuple[str, bytes]] = []
        for name, value in canaries.items():
            raw = value.encode()
            # Three ways in which base64 may cut it: without the ends, which depend on neighbours.
            shifted = [base64.b64encode(b"x" * n + raw)[4:-4] for n in range(3)]
            for form in (raw, quote(value).encode(), raw.hex().encode(), raw[::-1], *shifted):
                self._marks.append((name, form))

    def look(self, where: str, content: bytes | str) -> None:
        """Search some content."""
        data = content if isinstance(content, bytes) else content.encode(errors="replace")
        kind = where.partition(":")[0]
        self.bytes[kind] = self.bytes.get(kind, 0) + len(data)
        for name, mark in self._marks:
            if mark in data:
                at = data.index(mark)
                around = data[max(0, at - 60) : at].decode(errors="replace")
                self.found.append(f"{name} in {where}, behind {around!r}")


@pytest.fixture(scope="module")
def canaries():
    names = ("secretkey", "jwtsecret", "masterkey", "password", "mistyped", "flower")
    return {name: canary(name) for name in names}


@pytest.fixture(scope="module")
def guarded(canaries):
    """An installation of its own, whose every secret is a canary."""
    with tempfile.TemporaryDirectory(prefix="abe-canary-") as folder:
        kept = Path(folder) / "var" / "secrets"
        kept.mkdir(parents=True, mode=0o700)
        (kept / "flower_password").write_text(canaries["flower"])
        found = Stack(
            Path(folder),
            CANCEL_GRACE_SECONDS="1",
            SECRET_KEY=canaries["secretkey"],
            JWT_SECRET=canaries["jwtsecret"],
            MASTER_KEY=canaries["masterkey"],
            WEBHOOK_ALLOWED_NETWORKS="127.0.0.0/8",
        )
        try:
            found.start()
            yield found
        finally:
            if found.process is not None and found.process.poll() is None:
                found.stop()


@pytest.fixture(scope="module")
def used(guarded, canaries):
    """Every secret used, and misused; returns those that came into being meanwhile."""
    stack = guarded
    stack.environment["DJANGO_SUPERUSER_PASSWORD"] = canaries["password"]
    email = ("--email", "keeper@example.org")
    stack.manage("createsuperuser", "--noinput", "--username", NAME, *email)
    del stack.environment["DJANGO_SUPERUSER_PASSWORD"]
    made = {"token": stack.token.rpartition(".")[2]}
    for name, url in (("redispassword", stack.redis_url), ("databasepassword", stack.database_url)):
        parts = urlsplit(url)
        if password := parts.password or dict(parse_qsl(parts.query)).get("password"):
            made[name] = password
    with httpx.Client(base_url=stack.url, timeout=60, verify=TLS) as client:
        given = {"username": NAME, "password": canaries["password"]}
        signed = client.post("/auth/token", json=given).json()
        bearer = {"Authorization": f"Bearer {signed['access']}"}
        made["access"] = signed["access"].rpartition(".")[2]
        made["refresh"] = signed["refresh"].rpartition(".")[2]
        _misuse(client, canaries, bearer, signed)
        webhook = client.post(
            "/webhooks",
            headers=bearer,
            json={"url": f"{stack.url}/livez", "description": "canary"},
        )
        assert webhook.status_code == 201, webhook.text
        made["webhooksecret"] = webhook.json()["secret"].removeprefix("whsec_")
        stack.reaches(stack.submit("lab.squares", count=2), "succeeded")
        stack.reaches(stack.submit("lab.fragile", folder=str(stack.folder)), "blocked")
    return made, signed


def _misuse(client, canaries, bearer, signed) -> None:
    typed = canaries["mistyped"]
    access, refresh, password = signed["access"], signed["refresh"], canaries["password"]
    refused = [
        client.post("/auth/token", json={"username": NAME, "password": typed}),
        # The password where the name belongs.
        client.post("/auth/token", json={"username": password, "password": "x"}),
        client.post("/auth/token", json={"username": NAME, "password": [password]}),
        client.post("/auth/token", json={"username": NAME, "password": password, typed: 1}),
        client.post("/auth/token", content=f'{{"username": "{NAME}", "password": "{password}"'),
        client.post("/auth/refresh", json={"refresh": refresh[:-4] + "AAAA"}),
        client.get("/runs", headers={"Authorization": f"Bearer {access[:-4]}AAAA"}),
        client.get("/runs", headers={"Authorization": f"Basic {password}"}),
        client.get(f"/runs?token={access}", headers=bearer),
        client.get(f"/runs/{access}", headers=bearer),
        client.get(f"/hooks/{typed}"),
        client.post("/runs", headers=bearer, json={"automation": "lab.none", "input": typed}),
    ]
    for number, answer in enumerate(refused):
        assert 400 <= answer.status_code < 500, (number, answer.status_code, answer.text)
    # What was typed into an address or a name is the caller's own to be told again; in a value
    # that is a credential's it is not.
    for number in (0, 2, 4, 5, 6, 7):
        for value in (typed, password, access, refresh):
            assert value not in refused[number].text, (number, refused[number].text)
    with httpx.Client(base_url=str(client.base_url), timeout=60, verify=TLS) as admin:
        page = admin.get("/admin/login/").text
        form = {"csrfmiddlewaretoken": re.search(r'token" value="(\w+)"', page)[1]}
        wrong = admin.post("/admin/login/", data=form | {"username": NAME, "password": typed})
        assert wrong.status_code == 200
        assert typed not in wrong.text


def dump(stack) -> str:
    """Return the database as plain SQL."""
    done = subprocess.run(
        [
            str(binaries.postgres().folder / "pg_dump"),
            "--format=plain",
            "--no-owner",
            stack.database_url,
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "engine_run" in done.stdout
    return done.stdout


def redis_values(stack):
    """Yield every key of Redis with all it holds, as the server would save it."""
    client = stack.redis()
    read = {
        "string": client.get,
        "list": lambda key: client.lrange(key, 0, -1),
        "hash": client.hgetall,
        "set": client.smembers,
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        "stream": client.xrange,
    }
    for key in client.scan_iter(count=1000):
        kind = client.type(key)
        if kind != "none":
            yield key, repr(read[kind](key))


def test_canaries__come_out_nowhere(guarded, canaries, used):
    stack, (made, signed) = guarded, used
    searched = Searched(canaries | made)

    searched.look("database dump", dump(stack))
    for key, value in redis_values(stack):
        searched.look(f"redis: {key}", key + value)
    for path in [*sorted((stack.var / "log").rglob("*")), stack.output]:
        if path.is_file():
            searched.look(f"log: {path.name}", path.read_bytes())
    _look_at_api(searched, stack, signed)
    _look_at_admin(searched, stack, canaries["password"])
    for words in COMMANDS:
        searched.look(f"command: {words}", stack.manage(*words, check=False))
    for process in psutil.process_iter():
        try:
            searched.look(f"arguments: {process.pid}", " ".join(process.cmdline()))
        except psutil.Error:
            continue
    print("\nsearched " + ", ".join(f"{n} {size:,} bytes" for n, size in searched.bytes.items()))
    assert all(size > 0 for size in searched.bytes.values())
    assert set(searched.bytes) == {
        "database dump", "redis", "log", "api", "admin", "command", "arguments",
    }  # fmt: skip
    assert searched.found == []


COMMANDS = [
    ("runs", "list", "--json"),
    ("dlq", "list", "--json"),
    ("departments", "list", "--json"),
    ("tokens", "list", "--json"),
    ("webhooks", "list", "--json"),
    ("lockouts", "list", "--json"),
    ("roles", "list", "--json"),
    ("check_invariants", "--json"),
    ("streams", "info"),
    ("check",),
]


def _look_at_api(searched, stack, signed) -> None:
    bearer = {"Authorization": f"Bearer {signed['access']}"}
    with httpx.Client(base_url=stack.url, headers=bearer, timeout=60, verify=TLS) as client:
        paths = ["/health", "/health/manager", "/metrics", "/openapi.json", "/docs", "/auth/me"]
        listed = [
            re.sub(r"\{[^}]*\}", "none", path)
            for path, methods in client.get("/openapi.json").json()["paths"].items()
            if "get" in methods and "stream" not in path
        ]
        assert len(listed) > 10
        runs = [row["id"] for row in client.get("/runs").json()["results"]]
        hooks = [row["id"] for row in client.get("/webhooks").json()["results"]]
        paths += listed
        paths += [
            f"/runs/{run}{part}" for run in runs for part in ("", "/steps", "/events", "/why")
        ]
        paths += [f"/webhooks/{hook}{part}" for hook in hooks for part in ("", "/deliveries")]
        for path in paths:
            answer = client.get(path)
            assert answer.status_code < 500 or path.startswith("/health"), (path, answer.text)
            searched.look(f"api: {path}", answer.content + repr(answer.headers).encode())


def _look_at_admin(searched, stack, password) -> None:
    with httpx.Client(base_url=stack.url, timeout=60, verify=TLS, follow_redirects=True) as client:
        page = client.get("/admin/login/").text
        form = {"csrfmiddlewaretoken": re.search(r'token" value="(\w+)"', page)[1]}
        client.post(
            "/admin/login/", data=form | {"username": NAME, "password": password, "next": "/admin/"}
        )
        waiting, seen = ["/admin/"], set()
        while waiting:
            path = waiting.pop(0)
            shape = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d+", "0", path)
            if shape in seen or "logout" in path:
                continue
            seen.add(shape)
            answer = client.get(path)
            searched.look(f"admin: {path}", answer.content + repr(answer.headers).encode())
            waiting += re.findall(r'href="(/admin/[^"?#]*)"', answer.text)
        assert len(seen) > 25, seen


def test_search__finds_a_secret_in_every_form():
    """A search that finds nothing proves something only if it would find it."""
    value = canary("form")
    for text in (
        f"a {value} b",
        json.dumps({"a": value}),
        quote(f"x={value}"),
        base64.b64encode(f"user:{value}".encode()).decode(),
        base64.b64encode(f"use:{value}".encode()).decode(),
        f"ab{value.encode().hex()}",
    ):
        searched = Searched({"form": value})
        searched.look("here", text)
        assert searched.found, text
    searched = Searched({"form": value})
    searched.look("here", os.urandom(1000))
    assert not searched.found
