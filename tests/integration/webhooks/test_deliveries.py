"""What has happened is told: durably, signed, again and again until it is taken."""

import asyncio
import datetime as dt
import ssl
import threading
import time

import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.db import connection, connections
from django.db.models import F

from engine import outbox as engine_outbox
from engine import runs, sql
from engine.errors import InputInvalidError, StateConflictError
from engine.models import OutboxEvent, WebhookDelivery, WebhookEndpoint
from engine.webhooks import backoff, deliveries, endpoints, posting
from engine.webhooks.posting import Answer, Letter
from orchestration.manager import webhooks
from orchestration.manager.webhooks import Webhooks
from tests.eventually import eventually
from tests.integration.webhooks.conftest import settle
from tests.receiver import Receiver


def due_now() -> None:
    WebhookDelivery.objects.update(next_at=F("created_at"))


def only() -> WebhookDelivery:
    return WebhookDelivery.objects.get()


@pytest.fixture
def cancelled(told, submitted, outbox):
    """A run that was cancelled, and one delivery that tells of it."""
    endpoints.change(endpoint_id=told[0].pk, actor="test", event_types=["run.cancelled"])
    runs.cancel(run_id=submitted, actor="test")
    outbox()
    return submitted


# --- from the event to the receiver ---------------------------------------------------------


def test_run__that_ends_is_told_with_metadata_and_a_link(cancelled, told, receiver, loop, settings):
    settle(loop)
    (call,) = receiver.calls
    payload = call.verified(told[1])
    assert payload["type"] == "run.cancelled"
    assert payload["data"].pop("event_id").startswith("outbox-")
    assert payload["data"] == {
        "run_id": str(cancelled),
        "url": f"/runs/{cancelled}",
        "automation": "lab.squares",
        "department": "lab",
        "correlation_id": "",
        "status": "cancelled",
    }, "and no inputs, no outputs"
    at = dt.datetime.fromisoformat(payload["timestamp"])
    assert abs((dt.datetime.now(dt.UTC) - at).total_seconds()) < 120
    assert call.path == "/hook"
    assert call.headers["Content-Type"] == "application/json"
    row = only()
    assert (row.status, row.response_code, row.attempt, row.error_code) == ("delivered", 204, 1, "")
    assert row.message_id == call.headers["webhook-id"]
    assert row.duration_ms >= 0
    assert row.finished_at


def test_trace__goes_on_to_the_receiver(told, receiver, outbox, loop):
    sound = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    for traceparent in (sound, ""):
        started = runs.submit(
            automation="lab.squares", input={}, trigger="api", traceparent=traceparent
        )
        runs.cancel(run_id=started.run_id, actor="test")
    outbox()
    settle(loop)
    ended = [call for call in receiver.calls if call.verified(told[1])["type"] == "run.cancelled"]
    seen = {
        (call.headers.get("traceparent"), call.verified(told[1])["data"].get("traceparent"))
        for call in ended
    }
    assert seen == {(sound, sound), (None, None)}


def test_link__begins_with_the_public_address(told, submitted, outbox, settings):
    settings.PUBLIC_URL = "https://engine.example/"
    runs.cancel(run_id=submitted, actor="test")
    outbox()
    urls = {row.payload["data"]["url"] for row in WebhookDelivery.objects.all()}
    assert urls == {f"https://engine.example/runs/{submitted}"}


def test_events__each_meets_each_endpoint_that_wants_it_once(told, submitted, receiver, outbox):
    ours, _ = endpoints.create(url=receiver.url, actor="test", department="lab")
    other, _ = endpoints.create(url=receiver.url, actor="test", department="courier")
    ends, _ = endpoints.create(url=receiver.url, actor="test", event_types=["run.cancelled"])
    off, _ = endpoints.create(url=receiver.url, actor="test")
    endpoints.disable(endpoint_id=off.pk, actor="test")
    runs.cancel(run_id=submitted, actor="test")
    happened = sorted(
        OutboxEvent.objects.filter(stream="automation.events").values_list("event_type", flat=True)
    )
    outbox()

    def of(endpoint):
        found = WebhookDelivery.objects.filter(endpoint=endpoint)
        return sorted(found.values_list("event_type", flat=True))

    assert len(happened) > 1
    assert of(told[0]) == of(ours) == happened
    assert of(other) == of(off) == []
    assert of(ends) == ["run.cancelled"]
    assert WebhookDelivery.objects.values("message_id").distinct().count() == len(
        WebhookDelivery.objects.all()
    )


def test_events__that_are_for_operators_are_not_told(told, outbox):
    OutboxEvent.objects.create(
        stream="automation.dlq",
        event_type="dead_letter.created",
        data={"dead_letter_id": 5, "department": "lab", "error_message": "secret"},
        at="2026-01-01T00:00:00Z",
    )
    outbox()
    assert not WebhookDelivery.objects.exists()


def test_events__carry_nothing_that_is_not_named(told, outbox):
    OutboxEvent.objects.create(
        stream="automation.events",
        event_type="run.completed",
        data={"department": "lab", "status": "succeeded", "output": {"salary": 1}},
        at="2026-01-01T00:00:00Z",
    )
    outbox()
    assert "salary" not in str(only().payload)
    assert only().payload["data"]["status"] == "succeeded"


def test_relay__that_dies_before_its_commit_makes_no_delivery_and_the_next_makes_one(
    told, submitted, outbox
):
    def die(_events):
        raise RuntimeError("killed")

    runs.cancel(run_id=submitted, actor="test")
    before = OutboxEvent.objects.count()
    with pytest.raises(RuntimeError):
        engine_outbox.relay(limit=500, send=die)
    assert not WebhookDelivery.objects.exists()
    outbox()
    outbox()
    assert WebhookDelivery.objects.count() == before
    assert not OutboxEvent.objects.exists()


def test_relay__asks_one_question_more_for_all_events_of_a_turn(submitted, monkeypatch):
    """Nothing is asked where runs and steps move: only here, once for up to 500 events."""
    for verb in (runs.pause, runs.resume, runs.cancel):
        verb(run_id=submitted, actor="test")
    asked = []
    count = sql.count
    monkeypatch.setattr(sql, "count", lambda *words: asked.append(words) or count(*words))
    assert engine_outbox.relay(limit=500, send=lambda _events: None) > 2
    assert len(asked) == 1
    assert not WebhookDelivery.objects.exists()


# --- signatures -----------------------------------------------------------------------------


def test_rotation__both_secrets_verify_until_the_old_ones_time_is_over(
    cancelled, told, receiver, loop
):
    endpoint, old = told
    _, new = endpoints.rotate_secret(endpoint_id=endpoint.pk, actor="test")
    assert new != old
    settle(loop)
    receiver.calls[0].verified(old)
    receiver.calls[0].verified(new)
    WebhookEndpoint.objects.update(old_secret_until=F("created_at"))
    deliveries.resend(delivery_id=only().pk, endpoint_id=endpoint.pk, actor="test")
    settle(loop)
    receiver.calls[1].verified(new)
    with pytest.raises(Exception, match="No matching signature"):
        receiver.calls[1].verified(old)


def test_secrets__are_not_readable_in_the_database(told):
    endpoint, secret = told
    endpoints.rotate_secret(endpoint_id=endpoint.pk, actor="test")
    with connection.cursor() as cursor:
        cursor.execute("SELECT row_to_json(w)::text FROM engine_webhookendpoint w")
        (row,) = cursor.fetchone()
    assert secret not in row
    assert "whsec_" not in row


def test_secret__that_cannot_be_read_fails_the_attempt_and_nothing_else(
    cancelled, told, receiver, loop, settings
):
    settings.MASTER_KEY = "quite another key, which never sealed anything"
    loop.turn()
    assert loop.state == "working"
    row = only()
    assert (row.status, row.error_code) == ("pending", "secret_unreadable")
    assert not receiver.calls


# --- retries --------------------------------------------------------------------------------


def test_failure__is_tried_again_after_a_pause_under_the_same_id(cancelled, told, receiver, loop):
    receiver.status, receiver.body = 500, b"<b>broken\x00\x1b[31m</b>"
    settle(loop)
    row = only()
    assert (row.status, row.response_code, row.error_code) == ("pending", 500, "http_status")
    assert row.excerpt == "<b>broken [31m</b>"
    assert 3 < (row.next_at - row.attempted_at).total_seconds() < 30
    settle(loop)
    assert len(receiver.calls) == 1, "not before its time"
    receiver.status = 200
    due_now()
    settle(loop)
    first, second = receiver.calls
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    second.verified(told[1])
    row = only()
    assert (row.status, row.attempt, row.error_code) == ("delivered", 2, "")


def test_retry_after__is_honoured_within_bounds(cancelled, receiver, loop):
    receiver.status, receiver.headers = 429, {"Retry-After": "1800"}
    settle(loop)
    row = only()
    assert 1790 < (row.next_at - row.attempted_at).total_seconds() < 1830
    receiver.headers = {"Retry-After": str(10**12)}
    due_now()
    settle(loop)
    row = only()
    wanted = backoff.LONGEST_RETRY_AFTER_SECONDS
    assert wanted - 10 < (row.next_at - row.attempted_at).total_seconds() < wanted + 30


def test_retry_after__as_a_date_and_as_rubbish():
    at = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=600)
    text = at.strftime("%a, %d %b %Y %H:%M:%S GMT").encode()
    assert 590 < posting._seconds(text) < 601
    assert posting._seconds(b"Thu, 01 Jan 1970 00:00:00 GMT") == 0
    for rubbish in (b"", b"soon", b"-5", b"\xff", b"Mon, 99 Foo 2026"):
        assert posting._seconds(rubbish) is None


def test_attempts__end_after_a_day(cancelled, receiver, loop):
    receiver.status = 503
    WebhookDelivery.objects.update(tries=backoff.MAX_ATTEMPTS - 1, attempt=11)
    settle(loop)
    row = only()
    assert (row.status, row.attempt, row.response_code) == ("failed", 12, 503)
    assert row.finished_at
    due_now()
    settle(loop)
    assert len(receiver.calls) == 1


def test_redirect__is_not_followed(cancelled, receiver, loop):
    with Receiver() as elsewhere:
        receiver.status, receiver.headers = 302, {"Location": elsewhere.url}
        settle(loop)
        assert not elsewhere.calls
    assert (only().response_code, only().error_code) == (302, "redirect_refused")


def test_nobody_there__is_a_failure_like_others(cancelled, told, receiver, loop):
    with Receiver() as gone:
        url = gone.url
    WebhookEndpoint.objects.update(url=url)
    settle(loop)
    assert (only().status, only().error_code) == ("pending", "connection_failed")


def test_resend__sends_what_was_delivered_or_given_up(cancelled, told, receiver, loop):
    settle(loop)
    row = deliveries.resend(delivery_id=only().pk, endpoint_id=told[0].pk, actor="test")
    assert (row.status, row.finished_at, row.tries) == ("pending", None, 0)
    settle(loop)
    assert len({call.headers["webhook-id"] for call in receiver.calls}) == 1
    assert (only().status, only().attempt, len(receiver.calls)) == ("delivered", 2, 2)
    endpoints.disable(endpoint_id=told[0].pk, actor="test")
    with pytest.raises(StateConflictError, match="disabled"):
        deliveries.resend(delivery_id=only().pk, endpoint_id=told[0].pk, actor="test")


def test_resend__is_refused_while_it_is_being_sent(cancelled, told, receiver, loop):
    receiver.answering.clear()
    loop.turn()
    with pytest.raises(StateConflictError, match="being sent"):
        deliveries.resend(delivery_id=only().pk, endpoint_id=told[0].pk, actor="test")
    receiver.answering.set()
    settle(loop)
    assert len(receiver.calls) == 1


# --- endpoints that do not answer any more ---------------------------------------------------


def test_gone__disables_at_once(cancelled, told, receiver, loop):
    receiver.status = 410
    with structlog.testing.capture_logs() as logged:
        settle(loop)
    endpoint = WebhookEndpoint.objects.get()
    assert not endpoint.enabled
    assert "410" in endpoint.disabled_reason
    assert endpoint.disabled_at
    assert only().status == "failed"
    assert [line["webhook"] for line in logged if line["event"] == "webhook_disabled"] == [
        endpoint.pk
    ]


def test_endpoint__that_fails_for_days_is_disabled_and_goes_on_when_enabled(
    cancelled, told, receiver, loop
):
    endpoint, _ = told
    receiver.status = 500
    WebhookEndpoint.objects.update(failures=endpoints.DISABLE_AFTER_FAILURES)
    settle(loop)
    assert WebhookEndpoint.objects.get().enabled, "many failures, within a moment"
    WebhookEndpoint.objects.update(
        failures=2, failing_since=F("failing_since") - dt.timedelta(days=4)
    )
    due_now()
    settle(loop)
    assert WebhookEndpoint.objects.get().enabled, "days, but few failures"
    WebhookEndpoint.objects.update(failures=endpoints.DISABLE_AFTER_FAILURES)
    due_now()
    settle(loop)
    found = WebhookEndpoint.objects.get()
    assert not found.enabled
    assert "3 days" in found.disabled_reason
    receiver.status = 200
    due_now()
    settle(loop)
    assert len(receiver.calls) == 3, "disabled: what waits for it waits"
    enabled = endpoints.enable(endpoint_id=endpoint.pk, actor="test")
    assert (enabled.failures, enabled.failing_since, enabled.disabled_reason) == (0, None, "")
    settle(loop)
    assert only().status == "delivered"


def test_success__ends_a_row_of_failures(cancelled, told, receiver, loop):
    receiver.status = 500
    settle(loop)
    assert WebhookEndpoint.objects.get().failures == 1
    receiver.status = 200
    due_now()
    settle(loop)
    found = WebhookEndpoint.objects.get()
    assert (found.failures, found.failing_since) == (0, None)


# --- crashes and several managers ------------------------------------------------------------


def test_manager__that_dies_after_sending_has_it_sent_again(cancelled, receiver, loop, stop):
    loop.turn()
    eventually(loop.sender.finished, within=10, what="the answer")
    # Dead before it could note the answer: its memory is gone, the claim is still there.
    loop.sender.close()
    other = Webhooks(stop=stop)
    settle(other)
    assert len(receiver.calls) == 1, "not before the lease is over"
    assert only().status == "pending"
    due_now()
    settle(other)
    assert len(receiver.calls) == 2
    assert len({call.headers["webhook-id"] for call in receiver.calls}) == 1
    assert (only().status, only().attempt) == ("delivered", 2)


def test_record__of_a_lost_claim_changes_nothing(cancelled, receiver):
    (lost,) = deliveries.claim(limit=5, each=5, busy={})
    due_now()
    (held,) = deliveries.claim(limit=5, each=5, busy={})
    assert not deliveries.record(lost, Answer("http_status", response_code=500))
    assert WebhookEndpoint.objects.get().failures == 0
    assert deliveries.record(held, Answer("", response_code=200))
    assert not deliveries.record(lost, Answer("http_status", response_code=500))
    assert (only().status, only().response_code) == ("delivered", 200)


def test_claims__of_two_managers_never_meet(told, submitted, outbox):
    runs.cancel(run_id=submitted, actor="test")
    outbox()
    seed = WebhookDelivery.objects.first()
    WebhookDelivery.objects.bulk_create(
        WebhookDelivery(
            **{
                f.attname: getattr(seed, f.attname)
                for f in WebhookDelivery._meta.concrete_fields
                if f.attname not in {"id", "event_id"}
            },
            event_id=f"more-{n}",
        )
        for n in range(200)
    )
    total = WebhookDelivery.objects.count()
    taken: list[int] = []
    ready = threading.Barrier(4)

    def manage():
        ready.wait()
        try:
            while found := deliveries.claim(limit=7, each=7, busy={}):
                taken.extend(item.id for item in found)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=manage) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # SKIP LOCKED may leave some to a loser that found nothing free: nobody takes one twice.
    rest = deliveries.claim(limit=1000, each=1000, busy={})
    assert sorted(taken + [item.id for item in rest]) == sorted(
        WebhookDelivery.objects.values_list("pk", flat=True)
    )
    assert len(taken) + len(rest) == total


def test_stop__waits_for_answers_and_gives_back_the_rest(cancelled, receiver, stop, monkeypatch):
    monkeypatch.setattr(webhooks, "DRAIN_SECONDS", 0.2)
    receiver.answering.clear()
    found = Webhooks(stop=stop)
    found.turn()
    eventually(lambda: receiver.calls, within=10, what="the call")
    stop.set()
    began = time.monotonic()
    assert found.rest(10)
    assert time.monotonic() - began < 8
    assert (only().claim, only().attempt, only().tries) == (None, 0, 0)
    assert len(deliveries.claim(limit=5, each=5, busy={})) == 1, "due at once"


# --- nobody waits for a slow one -------------------------------------------------------------


def test_slow_receiver__holds_up_nobody_and_nothing_of_it_is_more_than_a_few_at_once(
    told, submitted, receiver, outbox, loop
):
    with Receiver() as slow:
        slow.answering.clear()
        endpoints.create(url=slow.url, actor="test")
        for _ in range(6):
            runs.pause(run_id=submitted, actor="test")
            runs.resume(run_id=submitted, actor="test")
        outbox()
        total = WebhookDelivery.objects.filter(endpoint=told[0]).count()
        assert total > webhooks.AT_ONCE_EACH * 2

        def served():
            loop.turn()
            return len(receiver.calls) == total

        eventually(served, within=20, what="the quick one to be told of everything")
        assert len(slow.calls) == webhooks.AT_ONCE_EACH
        slow.answering.set()
        settle(loop)
        assert len(slow.calls) == total
        assert slow.most_inside <= webhooks.AT_ONCE_EACH
        assert receiver.most_inside <= webhooks.AT_ONCE_EACH


def test_poisoned_row__stops_nothing(told, submitted, outbox, loop, monkeypatch):
    runs.cancel(run_id=submitted, actor="test")
    outbox()
    bad = WebhookDelivery.objects.first()
    letter = deliveries.letter

    def write(claimed):
        if claimed.id == bad.pk:
            raise RuntimeError("cannot be written")
        return letter(claimed)

    monkeypatch.setattr(deliveries, "letter", write)
    settle(loop)
    others = WebhookDelivery.objects.exclude(pk=bad.pk)
    assert set(others.values_list("status", flat=True)) == {"delivered"}
    assert WebhookDelivery.objects.get(pk=bad.pk).status == "pending"


def test_log__is_forgotten_after_its_time(cancelled, told, receiver, loop, settings):
    settle(loop)
    waiting = deliveries.send_test(endpoint_id=told[0].pk, actor="test")
    WebhookDelivery.objects.update(
        finished_at=F("finished_at") - dt.timedelta(days=settings.WEBHOOK_LOG_DAYS - 1)
    )
    assert deliveries.forget(days=settings.WEBHOOK_LOG_DAYS) == 0
    WebhookDelivery.objects.update(finished_at=F("finished_at") - dt.timedelta(days=2))
    assert deliveries.forget(days=settings.WEBHOOK_LOG_DAYS) == 1
    assert only().pk == waiting.pk


# --- where it may call (SSRF) ----------------------------------------------------------------


def posted(url, *, allowed=(), resolve=None, tls=None) -> Answer:
    letter = Letter(url=url, body=b"{}", headers=[])
    return asyncio.run(posting.post(letter, allowed=allowed, resolve=resolve, tls=tls))


def names(*answers):
    """A resolver that says something else each time it is asked."""
    told = iter(answers)

    async def resolve(_host, _port):
        return next(told)

    return resolve


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["::1"], ["::ffff:127.0.0.1"], ["169.254.169.254"], ["8.8.8.8", "10.0.0.1"]],
)
def test_post__connects_to_nothing_that_resolves_to_a_private_address(receiver, addresses):
    answer = posted(f"https://hooks.example:{receiver.port}/", resolve=names(addresses))
    assert answer.error_code == "address_refused"
    assert "WEBHOOK_ALLOWED_NETWORKS" in answer.excerpt
    assert not receiver.calls


def test_post__goes_to_the_address_that_was_checked(receiver, settings, monkeypatch):
    """A name that resolves elsewhere a moment later (DNS rebinding) is not asked again."""
    asked = []

    async def resolve(host, port):
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    connected = []
    connect = asyncio.open_connection

    async def note(address, *args, **kwargs):
        connected.append(address)
        return await connect(address, *args, **kwargs)

    monkeypatch.setattr(asyncio, "open_connection", note)
    url = f"http://rebinding.example:{receiver.port}/hook"
    answer = posted(url, allowed=settings.WEBHOOK_ALLOWED_NETWORKS, resolve=resolve)
    assert answer.error_code == ""
    assert asked == ["rebinding.example"]
    assert connected == ["127.0.0.1"], "by number: nobody can look it up again"
    assert receiver.calls[0].headers["Host"] == f"rebinding.example:{receiver.port}"


def test_post__by_http_goes_to_allowed_networks_only(receiver):
    answer = posted(receiver.url.replace("127.0.0.1", "public.example"), resolve=names(["8.8.8.8"]))
    assert answer.error_code == "address_refused"
    assert "https" in answer.excerpt


@pytest.fixture
def certified(tmp_path):
    """Contexts of a server called hooks.example and of a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hooks.example")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("hooks.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "server.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    client = posting.verifying()
    client.load_verify_locations(pem)
    return server, client


def test_post__verifies_the_certificate_of_the_name_at_the_address(certified, settings):
    server, client = certified
    allowed = settings.WEBHOOK_ALLOWED_NETWORKS
    with Receiver(tls=server) as secure:
        url = f"https://hooks.example:{secure.port}/"
        resolve = names(*[["127.0.0.1"]] * 3)
        assert posted(url, allowed=allowed, resolve=resolve, tls=client).error_code == ""
        wrong = posted(url.replace("hooks", "other"), allowed=allowed, resolve=resolve, tls=client)
        untrusted = posted(url, allowed=allowed, resolve=resolve)
    assert (wrong.error_code, untrusted.error_code) == ("certificate_invalid",) * 2
    assert len(secure.calls) == 1


# --- answers that are none --------------------------------------------------------------------


@pytest.fixture
def crude(settings, monkeypatch):
    """Serve these bytes to whoever connects, drop by drop where asked; returns the answer."""

    def serve(*pieces: bytes, every: float = 0.0) -> Answer:
        async def act():
            async def desk(reader, writer):
                await reader.readuntil(b"\r\n\r\n")
                try:
                    for piece in pieces:
                        writer.write(piece)
                        await writer.drain()
                        await asyncio.sleep(every)
                except ConnectionError:
                    pass
                finally:
                    writer.close()

            server = await asyncio.start_server(desk, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            letter = Letter(url=f"http://127.0.0.1:{port}/", body=b"{}", headers=[])
            answer = await posting.post(letter, allowed=settings.WEBHOOK_ALLOWED_NETWORKS)
            server.close()
            return answer

        return asyncio.run(act())

    return serve


def test_post__of_a_body_reads_only_its_beginning(crude):
    answer = crude(b"HTTP/1.1 200 OK\r\n\r\n", *[b"x" * 65536] * 64)
    assert (answer.error_code, answer.response_code) == ("", 200)
    assert answer.excerpt == "x" * posting.EXCERPT_CHARACTERS


def test_post__does_not_wait_for_a_body_that_drips(crude, monkeypatch):
    monkeypatch.setattr(posting, "BODY_SECONDS", 0.3)
    answer = crude(b"HTTP/1.1 202 Accepted\r\n\r\n", *[b"x"] * 100, every=0.1)
    assert (answer.error_code, answer.response_code) == ("", 202)
    assert answer.duration_ms < 5000


def test_post__does_not_wait_for_a_head_that_drips(crude, monkeypatch):
    monkeypatch.setattr(posting, "ANSWER_SECONDS", 0.5)
    answer = crude(b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n"] * 100, every=0.1)
    assert answer.error_code == "timeout"
    assert answer.duration_ms < 5000


@pytest.mark.parametrize(
    "pieces",
    [
        [b"SSH-2.0-OpenSSH_9\r\n"],
        [b""],
        [b"HTTP/1.1 200 OK\r\n"],
        [b"HTTP/1.1 999999 x\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 200_000 + b"\r\n\r\n"],
        [b"HTTP/1.1 100 Continue\r\n\r\n" * 50],
    ],
)
def test_post__of_what_is_no_answer_is_a_failure(crude, pieces):
    answer = crude(*pieces)
    assert answer.error_code in {"answer_malformed", "connection_failed"}
    assert answer.response_code is None


# --- the doors ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"url": "http://hooks.example:1/x y"}, "url"),
        ({"url": "https://10.0.0.1/"}, "url"),
        ({"event_types": ["run.completed", "run.dreamt"]}, "event_types"),
        ({"department": "nowhere"}, "department"),
        ({"description": "x" * 201}, "description"),
    ],
)
def test_create__names_the_field_at_fault(platform, values, field):
    with pytest.raises(InputInvalidError) as refused:
        endpoints.create(**({"url": "https://hooks.example/", "actor": "test"} | values))
    assert [problem["field"] for problem in refused.value.problems] == [field]
    assert not WebhookEndpoint.objects.exists()


def test_change__keeps_what_is_not_named_and_refuses_what_is_fixed(told):
    endpoint, _ = told
    changed = endpoints.change(endpoint_id=endpoint.pk, actor="test", description="ours")
    assert (changed.description, changed.url) == ("ours", endpoint.url)
    with pytest.raises(InputInvalidError, match="secret"):
        endpoints.change(endpoint_id=endpoint.pk, actor="test", secret="mine")


def test_remove__takes_its_log_along(cancelled, told):
    endpoints.remove(endpoint_id=told[0].pk, actor="test")
    assert not WebhookEndpoint.objects.exists()
    assert not WebhookDelivery.objects.exists()


def test_test__is_sent_like_an_event(told, receiver, loop):
    endpoint, secret = told
    deliveries.send_test(endpoint_id=endpoint.pk, actor="test")
    settle(loop)
    payload = receiver.calls[0].verified(secret)
    assert (payload["type"], payload["data"]["webhook_id"]) == ("webhook.test", endpoint.pk)
    assert only().status == "delivered"
