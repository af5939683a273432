"""No gap and no double: while others write and commit late, and web processes are killed."""

from __future__ import annotations

import random
import threading

from engine import runs
from engine.models import RunEvent
from tests.eventually import eventually
from tests.integration.streaming.test_tail import INSERT

WRITERS, TRANSACTIONS = 6, 60


class Writer(threading.Thread):
    """Write events as workers do: several at once, some commit late, some never."""

    def __init__(self, connection, run_id, seed) -> None:
        super().__init__(daemon=True)
        self.connection, self.run_id, self.dice = connection, run_id, random.Random(seed)

    def run(self) -> None:
        for _ in range(TRANSACTIONS):
            for _ in range(self.dice.randint(1, 4)):
                self.connection.execute(INSERT, [self.run_id])
            pause = self.dice.choice([0, 0, 0.002, 0.02, 0.2])
            self.connection.execute("SELECT pg_sleep(%s)", [pause])
            self.dice.choice([self.connection.commit] * 5 + [self.connection.rollback])()


def committed(run_id, after):
    found = RunEvent.objects.filter(run_id=run_id, id__gt=after).order_by("id")
    return list(found.values_list("id", flat=True))


def test_stream__misses_and_doubles_nothing_while_others_commit_late(web, listen, run_id, connect):
    whole = listen(web, f"/runs/{run_id}/stream")
    department = listen(web, "/departments/lab/stream")
    began = whole.hears("snapshot").id
    department.hears("snapshot")
    late = connect()
    low = late.execute(INSERT, [run_id]).fetchone()[0]
    writers = [Writer(connect(), run_id, seed) for seed in range(WRITERS)]
    for writer in writers:
        writer.start()
    pieces: list[int] = []
    last = began
    # Somebody whose connection breaks again and again.
    while any(writer.is_alive() for writer in writers):
        part = listen(web, f"/runs/{run_id}/stream", last_event_id=last)
        before = len(RunEvent.objects.filter(run_id=run_id))
        eventually(
            lambda heard=part, n=before: (
                heard.told
                or len(RunEvent.objects.filter(run_id=run_id)) > n + 50
                or not any(writer.is_alive() for writer in writers)
            ),
            within=20,
        )
        part.close()
        pieces += part.told
        last = part.last_event_id
        if len(committed(run_id, 0)) > 200 and late is not None:
            assert whole.told == [], "nothing above an id that may still appear"
            late.commit()
            late = None
    if late is not None:
        late.commit()
    part = listen(web, f"/runs/{run_id}/stream", last_event_id=last)
    wanted = committed(run_id, began)
    assert low == wanted[0]
    assert len(wanted) > 400
    for heard in (whole, department):
        eventually(lambda heard=heard: len(heard.told) >= len(wanted), within=20)
        assert heard.told == wanted
    eventually(lambda: len(pieces) + len(part.told) >= len(wanted), within=20)
    assert pieces + part.told == wanted


def test_stream__goes_on_at_another_process_when_its_own_is_killed(
    web, start_web, listen, run_id, connect
):
    doomed = start_web()
    stream = listen(doomed, f"/runs/{run_id}/stream")
    began = stream.hears("snapshot").id
    writers = [Writer(connect(), run_id, seed) for seed in range(WRITERS)]
    for writer in writers:
        writer.start()
    eventually(lambda: len(stream.told) > 100, within=30)
    doomed.process.kill()
    stream.ends()
    rest = listen(web, f"/runs/{run_id}/stream", last_event_id=stream.last_event_id)
    for writer in writers:
        writer.join(30)
    runs.cancel(run_id=run_id, actor="anna")
    rest.ends(within=30)
    assert "snapshot" not in rest.names
    assert rest.names[-1] == "end"
    assert stream.told + rest.told == committed(run_id, began)
