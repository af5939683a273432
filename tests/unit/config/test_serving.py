"""How web answers a request, asked as an ASGI server asks."""

import asyncio
import threading

import pytest
from django.core import signals
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.urls import path
from prometheus_client import REGISTRY

from config import serving
from tests.eventually import eventually

FILE_BYTES = 1_000_000


def _size(request):
    return HttpResponse(str(len(request.body)))


def _thread(_request):
    return HttpResponse(threading.current_thread().name)


def _file(request):
    return FileResponse(open(request.GET["path"], "rb"))  # noqa: PTH123 - it closes it


class _Endless:
    """A stream of its own pace, and what became of it."""

    def __init__(self):
        self.closed = threading.Event()

    def respond(self, _request):
        response = StreamingHttpResponse(self._pieces())
        response._resource_closers.append(self.closed.set)
        return response

    async def _pieces(self):
        while True:
            yield b"piece"
            await asyncio.sleep(0.001)


endless = _Endless()
gate = threading.Event()
waiting = set()


def _wait(_request):
    waiting.add(threading.get_ident())
    gate.wait(10)
    return HttpResponse("done")


urlpatterns = [
    path("size", _size),
    path("thread", _thread),
    path("file", _file),
    path("wait", _wait),
    path("endless", endless.respond),
    path("livez", _thread),
]


def _all_threads_wait():
    return len(waiting) == serving.REQUEST_THREADS


@pytest.fixture
def handler(settings):
    settings.ROOT_URLCONF = __name__
    settings.STATIC_ROOT = None
    settings.MIDDLEWARE = [
        "config.telemetry.RequestTelemetry",
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.common.CommonMiddleware",
    ]
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    settings.MAX_ARTIFACT_BYTES = 10_000
    return serving.Handler()


class Call:
    """One request: its chunks on the way in, its messages on the way out."""

    def __init__(self, url, *chunks, **headers):
        address, _, query = url.partition("?")
        named = {"host": "localhost", **headers}
        self.scope = {
            "type": "http",
            "method": "POST" if chunks else "GET",
            "path": address,
            "query_string": query.encode(),
            "headers": [(k.replace("_", "-").encode(), str(v).encode()) for k, v in named.items()],
        }
        self.chunks = list(chunks) or [b""]
        self.taken = 0
        self.sent = []

    async def receive(self):
        if self.taken == len(self.chunks):
            await asyncio.sleep(30)
        self.taken += 1
        more = self.taken < len(self.chunks)
        return {"type": "http.request", "body": self.chunks[self.taken - 1], "more_body": more}

    async def send(self, message):
        self.sent.append(message)

    async def through(self, handler):
        await handler(self.scope, self.receive, self.send)
        return self

    @property
    def status(self):
        return self.sent[0]["status"]

    @property
    def headers(self):
        return {name.lower(): value for name, value in self.sent[0]["headers"]}

    @property
    def pieces(self):
        return [m["body"] for m in self.sent[1:] if m.get("body")]


def run(handler, *arguments, **headers):
    return asyncio.run(Call(*arguments, **headers).through(handler))


def test_handler__hands_the_body_on(handler):
    answered = run(handler, "/size", b"a" * 500, b"b" * 500)
    assert (answered.status, answered.pieces) == (200, [b"1000"])


def test_handler__refuses_an_announced_body_before_it_is_sent(handler):
    announcing = Call("/size", content_length=2000)
    announcing.chunks = []
    answered = asyncio.run(asyncio.wait_for(announcing.through(handler), 5))
    assert answered.status == 413
    assert answered.headers[b"content-type"] == b"application/problem+json"
    assert answered.headers[b"x-request-id"]
    assert answered.headers[b"x-content-type-options"] == b"nosniff"
    assert b"default-src 'none'" in answered.headers[b"content-security-policy"]


@pytest.mark.parametrize(
    ("status", "url", "headers"),
    [
        (414, "/size?" + "q" * 8300, {}),
        (431, "/size", {"x_long": "x" * 33_000}),
        (431, "/size", {f"x_{n}": "x" for n in range(101)}),
    ],
)
def test_handler__refuses_a_head_that_is_too_large(handler, status, url, headers):
    answered = run(handler, url, b"body", **headers)
    assert answered.status == status
    assert answered.headers[b"content-type"] == b"application/problem+json"


def test_handler__stops_keeping_a_body_that_grows_above_the_limit(handler):
    answered = run(handler, "/size", *[b"a" * 400] * 4)
    assert answered.status == 413
    assert b"larger than 1000 bytes" in answered.pieces[0]


def test_handler__takes_files_up_to_the_limit_of_files(handler):
    form = {"content_type": "multipart/form-data; boundary=x"}
    assert run(handler, "/thread", b"a" * 10_500, **form).status == 200
    assert run(handler, "/thread", b"a" * 11_001, **form).status == 413


def test_handler__answers_for_health_while_every_other_thread_hangs(handler):
    async def hang_and_ask():
        gate.clear()
        waiting.clear()
        hanging = [
            asyncio.create_task(Call("/wait").through(handler))
            for _ in range(2 * serving.REQUEST_THREADS)
        ]
        try:
            await asyncio.to_thread(eventually, _all_threads_wait, within=5)
            answered = await asyncio.wait_for(Call("/livez").through(handler), 5)
            return answered, len(waiting)
        finally:
            gate.set()
            await asyncio.gather(*hanging)

    answered, threads = asyncio.run(hang_and_ask())
    assert answered.status == 200
    assert answered.pieces[0].startswith(b"health")
    assert threads == serving.REQUEST_THREADS


def test_latency__is_counted_with_the_time_that_a_request_waits_for_a_thread(handler):
    def counted() -> float:
        labels = {"method": "GET", "route": "/thread", "le": "0.3"}
        return REGISTRY.get_sample_value("api_request_latency_seconds_bucket", labels) or 0.0

    async def hang_and_ask():
        gate.clear()
        waiting.clear()
        hanging = [
            asyncio.create_task(Call("/wait").through(handler))
            for _ in range(serving.REQUEST_THREADS)
        ]
        await asyncio.to_thread(eventually, _all_threads_wait, within=5)
        queued = asyncio.create_task(Call("/thread").through(handler))
        await asyncio.wait({queued}, timeout=0.4)
        gate.set()
        await asyncio.gather(queued, *hanging)

    run(handler, "/thread")
    before = counted()
    asyncio.run(hang_and_ask())
    assert counted() == before, "it took 0.4 s, most of it before a thread was free"


def test_handler__sends_a_file_in_pieces_and_closes_it(handler, tmp_path):
    place = tmp_path / "large"
    place.write_bytes(b"x" * FILE_BYTES)
    answered = run(handler, f"/file?path={place}")
    assert sum(map(len, answered.pieces)) == FILE_BYTES
    assert len(answered.pieces) > FILE_BYTES // handler.chunk_size


class _Leaving(Call):
    """Takes three pieces, then leaves."""

    async def receive(self):
        if self.taken < len(self.chunks):
            return await super().receive()
        await self.has_enough.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        await super().send(message)
        if len(self.sent) > 3:
            self.has_enough.set()


def test_handler__ends_a_stream_whose_client_has_left(handler):
    endless.closed.clear()
    leaving = _Leaving("/endless")
    leaving.has_enough = asyncio.Event()
    answered = asyncio.run(asyncio.wait_for(leaving.through(handler), 5))
    assert len(answered.pieces) >= 3
    assert endless.closed.is_set()


def test_handler__tells_a_requests_begin_and_end_where_its_connections_are(handler):
    threads = []

    def note(**_kwargs):
        threads.append(threading.current_thread().name)

    signals.request_started.connect(note)
    signals.request_finished.connect(note)
    try:
        answered = run(handler, "/thread")
    finally:
        signals.request_started.disconnect(note)
        signals.request_finished.disconnect(note)
    assert threads == [answered.pieces[0].decode()] * 2


def test_handler__answers_400_to_an_address_that_is_no_text(handler):
    broken = Call("/thread")
    broken.scope["query_string"] = b"\xff"
    assert asyncio.run(broken.through(handler)).status == 400
