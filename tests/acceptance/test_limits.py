"""How large a request may be, over real HTTP: too large is a problem, and stores nothing."""

from __future__ import annotations

import json
import socket
from urllib.parse import urlsplit

import httpx
import pytest

from tests.acceptance.stack import TLS

pytestmark = pytest.mark.timeout(120)

SQUARES = {"automation": "lab.squares", "input": {"count": 1}}
MEGABYTE = 1_000_000
#: Every table that a request could have left something in.
COUNTS = (
    "SELECT (SELECT count(*) FROM engine_run), (SELECT count(*) FROM engine_artifact),"
    " (SELECT count(*) FROM engine_idempotentanswer)"
)


@pytest.fixture(autouse=True)
def nothing_stored(stack):
    before = stack.rows(COUNTS)
    yield
    assert stack.rows(COUNTS) == before


@pytest.fixture
def client(stack):
    bearer = {"Authorization": f"Bearer {stack.token}"}
    with httpx.Client(base_url=stack.url, headers=bearer, timeout=60, verify=TLS) as found:
        yield found


def is_problem(answer, status, code):
    assert answer.status_code == status, answer.text[:300]
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == code
    assert answer.headers["x-content-type-options"] == "nosniff"


def send(stack, *pieces: bytes) -> bytes:
    """Say these bytes to web, reading as it answers; return all it says."""
    address = urlsplit(stack.url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as link:
        try:
            for piece in pieces:
                link.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has said what it had to say
        answer = b""
        try:
            while data := link.recv(65536):
                answer += data
                if b"\r\n\r\n" in answer and answer.rstrip().endswith(b"}"):
                    break
        except ConnectionResetError:
            pass
        return answer


def test_body__that_announces_too_much_is_413_before_it_is_sent(stack):
    head = (
        f"POST /runs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {stack.token}\r\n"
        "Content-Type: application/json\r\nContent-Length: 3000000\r\n\r\n"
    )
    answer = send(stack, head.encode())
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"body_too_large" in answer


def test_body__that_grows_too_large_is_413(client):
    def pieces():
        yield b'{"automation": "lab.squares", "input": {"count": 1}, "x": "'
        for _ in range(4):
            yield b"x" * MEGABYTE
        yield b'"}'

    answer = client.post("/runs", content=pieces(), headers={"Content-Type": "application/json"})
    is_problem(answer, 413, "body_too_large")


def test_form__with_files_has_a_limit_of_its_own(client):
    def pieces():
        yield b'--x\r\nContent-Disposition: form-data; name="ledger"; filename="l"\r\n\r\n'
        for _ in range(110):
            yield b"x" * MEGABYTE

    form = {"Content-Type": "multipart/form-data; boundary=x"}
    try:
        answer = client.post("/runs", content=pieces(), headers=form)
    except httpx.WriteError:
        pytest.fail("the connection was cut before the answer could be read")
    is_problem(answer, 413, "body_too_large")


@pytest.mark.parametrize("kind", ["fields", "files", "header", "no end"])
def test_form__of_too_many_parts_is_400(client, kind):
    part = 'Content-Disposition: form-data; name="n{n}"{file}\r\n{more}\r\nv\r\n'
    number = {"fields": 1100, "files": 110}.get(kind, 1)
    file = "" if kind == "fields" else '; filename="f"'
    more = "X-Long: " + "x" * 5000 + "\r\n" if kind == "header" else ""
    parts = [f"--x\r\n{part.format(n=n, file=file, more=more)}" for n in range(number)]
    body = "".join(parts) + ("" if kind == "no end" else "--x--\r\n")
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = client.post("/runs", content=body.encode(), headers=form)
    assert answer.status_code == 400, answer.text[:300]
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("depth", [65, 5_000, 500_000])
@pytest.mark.parametrize("kind", ["list", "object"])
def test_json__nested_too_deeply_is_400(client, depth, kind):
    opening, closing = ("[", "]") if kind == "list" else ('{"a":', "}")
    nested = opening * depth + "1" + closing * depth
    text = json.dumps(SQUARES)[:-1] + f', "x": {nested}}}'
    if len(text) > 2_400_000:
        text = text[:2_400_000]
    answer = client.post("/runs", content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert "nested" in answer.json()["detail"]


def test_query__too_long_is_414(client):
    is_problem(client.get("/runs?state=" + "x" * 9000), 414, "target_too_long")
    is_problem(client.get("/runs/" + "x" * 9000), 414, "target_too_long")


def test_header__too_large_is_431(client):
    answer = client.post("/runs", json=SQUARES, headers={"X-Long": "x" * 40_000})
    is_problem(answer, 431, "headers_too_large")


def test_headers__too_many_are_431(client):
    many = {f"X-{n}": "x" for n in range(120)}
    is_problem(client.post("/runs", json=SQUARES, headers=many), 431, "headers_too_large")


@pytest.mark.parametrize("way", ["one line", "many lines", "a path"])
def test_head__that_never_ends_is_cut_off(stack, way):
    """By itself uvicorn would keep all of it."""
    begin = b"GET /runs HTTP/1.1\r\nHost: localhost\r\nX-Long: "
    if way == "a path":
        begin = b"GET /runs?"
    piece = b"x: y\r\n" * 10_000 if way == "many lines" else b"x" * 60_000
    begin = begin + b"1\r\n" if way == "many lines" else begin
    answer = send(stack, begin, *[piece] * 300)
    # Cut off in the middle of a word: the answer may have been lost with the connection.
    assert answer == b"" or answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 ")), answer[:300]


def test_head__that_never_ends_is_told_why(stack):
    answer = send(stack, b"GET /runs HTTP/1.1\r\nHost: localhost\r\nX-Long: ", b"x" * 70_000)
    assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert b"application/problem+json" in answer
    assert b"headers_too_large" in answer


def test_words__that_are_no_http_are_a_problem_too(stack):
    answer = send(stack, b"\x16\x03\x01 hello\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"application/problem+json" in answer


def test_requests__of_one_connection_are_bounded_each_by_itself(stack):
    """Many small heads on one connection are not one large head."""
    one = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Some: " + b"x" * 2000 + b"\r\n\r\n"
    last = one.replace(b"/livez", b"/runs")
    address = urlsplit(stack.url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as link:
        link.sendall(one * 60 + last)
        answer = b""
        while b"not_authenticated" not in answer:
            answer += link.recv(65536)
    assert answer.count(b"HTTP/1.1 200 OK") == 60


@pytest.mark.parametrize("size", [1_000, 60_000, 70_000, 300_000, 2_000_000])
def test_body__of_any_size_below_its_limit_is_read(client, size):
    text = json.dumps(SQUARES | {"x": "x" * size})
    answer = client.post("/runs", content=text, headers={"Content-Type": "application/json"})
    is_problem(answer, 400, "request_invalid")
    assert answer.json()["errors"][0]["pointer"] == "/x"
