from __future__ import annotations

import base64
import json
import os
import signal
import socket
import threading
import time
from pathlib import Path

import psutil
import pytest
from celery import current_app
from django.conf import settings
from kombu import Queue
from kombu.transport.virtual.base import QoS

from engine.publishing import ReadyStep
from orchestration import messages, publisher, streams
from tests.eventually import eventually

STEP = ReadyStep(7, "lab")


@pytest.fixture
def sender(broker):
    return publisher.Publisher()


def sent(queue: str) -> list[list[int]]:
    return [messages.step_run_ids(raw) for raw in reversed(streams.waiting(queue, limit=10_000))]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_publish__a_message_with_the_step_in_its_queue(sender):
    sender.publish([STEP])
    assert sent("lab") == [[7]]


def test_publish__a_thousand_steps_in_few_messages_and_in_order(sender):
    sender.publish([ReadyStep(number, "lab") for number in range(1000)])
    found = sent("lab")
    assert [n for ids in found for n in ids] == list(range(1000))
    assert len(found) == 32


def test_publish__to_the_queue_of_a_department_that_is_no_longer_declared(sender):
    sender.publish([ReadyStep(1, "abolished")])
    assert sent("abolished") == [[1]]


def shape(value: object, *, known: dict[str, object]) -> object:
    """Return a message's structure with the values that differ from one message to the next out."""
    if isinstance(value, dict):
        return {name: known.get(name, shape(found, known=known)) for name, found in value.items()}
    return value


@pytest.mark.parametrize(
    ("task", "kwargs"),
    [
        (messages.EXECUTE, {"step_run_ids": [4, 5]}),
        (messages.NOTIFY_DEAD_LETTER, {"dead_letter_id": 6}),
    ],
)
def test_encode__is_what_celery_itself_would_send(broker, task, kwargs):
    with current_app.connection_for_write() as connection:
        current_app.send_task(
            task,
            kwargs=kwargs,
            queue=Queue("lab"),
            producer=current_app.amqp.Producer(connection.default_channel),
            argsrepr="-",
            kwargsrepr="-",
            ignore_result=True,
        )
    theirs = json.loads(streams.waiting("lab", limit=1)[0])
    ours = json.loads(messages.encode(task, kwargs, queue="lab"))
    # Ids are random; there is nobody to reply to.
    differing = dict.fromkeys(["id", "root_id", "correlation_id", "delivery_tag", "reply_to"])
    assert shape(ours, known=differing) == shape(theirs, known=differing)
    assert base64.b64decode(ours["body"]) == base64.b64decode(theirs["body"])


def test_celery__supports_batches_with_our_transport_options(broker):
    # A retry policy in the transport options would turn this off without a word, and with it the
    # promise that a command is never sent twice.
    with current_app.connection_for_write() as connection:
        producer = current_app.amqp.Producer(connection.default_channel)
        assert producer.supports_batch_publish is True


def test_publish__one_redis_command_a_message(sender, broker):
    sender.publish([STEP])
    before = broker.info("commandstats")
    sender.publish([STEP])
    after = broker.info("commandstats")
    used = {
        name: after[name]["calls"] - before.get(name, {"calls": 0})["calls"]
        for name in after
        if name != "cmdstat_info"
    }
    assert {name: calls for name, calls in used.items() if calls} == {"cmdstat_lpush": 1}


def test_consumer__acknowledgement_emulation_is_really_off(broker):
    with current_app.connection_for_read() as connection:
        channel = connection.default_channel
        assert channel.ack_emulation is False
        assert type(channel.qos) is QoS
        assert list(channel.priority_steps) == [0]


def test_publish__never_raises_and_is_quick_when_redis_is_gone(sender, redis_elsewhere):
    redis_elsewhere(f"redis://127.0.0.1:{free_port()}/0")
    began = time.monotonic()
    sender.publish([STEP])
    assert time.monotonic() - began < 1.0
    began = time.monotonic()
    for _ in range(1000):
        sender.publish([STEP])
    assert time.monotonic() - began < 0.5, "the circuit breaker does not hold"


def test_publish__never_raises_and_is_quick_when_redis_hangs(sender, broker):
    sender.publish([STEP])
    server = psutil.Process(broker.info("server")["process_id"])
    server.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        sender.publish([STEP])
        assert time.monotonic() - began < 1.2
    finally:
        server.send_signal(signal.SIGCONT)


def test_publish__works_at_once_after_redis_dropped_the_idle_connection(sender, broker):
    sender.publish([STEP])
    for client in broker.client_list():
        if client["id"] != broker.client_id():
            broker.client_kill_filter(_id=client["id"])
    sender.publish([STEP])
    assert sent("lab") == [[7], [7]]
    assert sender.is_open


def test_publish__tries_again_after_the_pause(sender, redis_elsewhere, broker, monkeypatch):
    monkeypatch.setattr(publisher, "BREAK_SECONDS", 0.0)
    good = settings.REDIS_URL
    redis_elsewhere(f"redis://127.0.0.1:{free_port()}/0")
    sender.publish([STEP])
    redis_elsewhere(good)
    sender.publish([STEP])
    assert sent("lab") == [[7]]


def test_send__raises_for_the_dispatcher(sender, redis_elsewhere):
    redis_elsewhere(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(publisher.BrokerAwayError):
        sender.send([STEP])


def test_publish__from_many_threads_at_once(sender):
    def work(start: int) -> None:
        for number in range(50):
            sender.publish([ReadyStep(start + number, "lab")])

    threads = [threading.Thread(target=work, args=(n * 50,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(n for ids in sent("lab") for n in ids) == list(range(400))


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_publish__in_a_forked_child_leaves_the_parents_connection_alone(sender, tmp_path):
    sender.publish([ReadyStep(1, "lab")])
    child = os.fork()
    if child == 0:
        sender.publish([ReadyStep(2, "lab")])
        (Path(tmp_path) / "done").touch()
        os._exit(0)
    os.waitpid(child, 0)
    assert (tmp_path / "done").exists()
    sender.publish([ReadyStep(3, "lab")])
    assert sent("lab") == [[1], [2], [3]]


# --- backlog -------------------------------------------------------------------------------


def fill(sender, messages: int) -> None:
    for number in range(messages):
        sender.publish([ReadyStep(number, "lab")])


def test_is_backed_up__when_more_waits_than_workers_take_at_once(sender):
    fill(sender, publisher.BACKLOG_MESSAGES)
    assert not sender.is_backed_up("lab")
    fill(sender, 1)
    assert sender.is_backed_up("lab")
    assert not sender.is_backed_up("finance")


def test_is_backed_up__also_by_what_others_sent(sender):
    fill(publisher.Publisher(), publisher.BACKLOG_MESSAGES + 1)
    assert sender.is_backed_up("lab")


def test_is_backed_up__while_others_stand_in_line(sender, broker):
    streams.note_lines(standing=["lab"], gone=[])
    assert sender.is_backed_up("lab"), "it would overtake them"
    streams.note_lines(standing=[], gone=["lab"])
    eventually(lambda: not sender.is_backed_up("lab"), within=1)
    streams.note_lines(standing=["lab"], gone=[])
    assert 0 < broker.pttl(streams.LINE + "lab") <= streams.LINE_MILLISECONDS


def test_is_backed_up__until_the_queue_has_been_seen_short_again(sender, broker):
    fill(sender, publisher.BACKLOG_MESSAGES + 1)
    assert sender.is_backed_up("lab")
    broker.delete("lab")
    eventually(lambda: not sender.is_backed_up("lab"), within=1)


def test_is_backed_up__asks_redis_no_more_than_a_few_times_a_second(sender, broker):
    def asked() -> int:
        return broker.info("commandstats").get("cmdstat_llen", {"calls": 0})["calls"]

    fill(sender, publisher.BACKLOG_MESSAGES + 1)
    before = asked()
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        assert sender.is_backed_up("lab")
    assert 3 <= asked() - before <= 0.3 / publisher.BELIEF_SECONDS


def test_is_backed_up__while_nothing_can_be_sent(sender, redis_elsewhere):
    redis_elsewhere(f"redis://127.0.0.1:{free_port()}/0")
    sender.publish([STEP])
    assert sender.is_backed_up("lab"), "stored as sent it would count as lost for seconds"
