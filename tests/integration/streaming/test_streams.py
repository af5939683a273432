"""What a listener is told: a snapshot, then each event once and in order, then the end."""

from __future__ import annotations

from django.utils import timezone

from engine import lanes, runs
from engine.models import RunEvent
from tests.eventually import eventually


def tell(run_id, kind="step.warning", **data):
    return RunEvent.objects.create(run_id=run_id, kind=kind, data=data, at=timezone.now()).id


def test_stream__shows_the_run_then_tells_its_events_then_its_end(web, listen, run_id):
    stream = listen(web, f"/runs/{run_id}/stream")
    assert stream.response.headers["Content-Type"].startswith("text/event-stream")
    assert stream.response.headers["Cache-Control"] == "no-store"
    assert stream.response.headers["X-Accel-Buffering"] == "no"
    snapshot = stream.hears("snapshot")
    shown = web.client.get(f"/runs/{run_id}").json()
    assert snapshot.data == shown
    runs.pause(run_id=run_id, actor="anna")
    assert stream.hears("run.paused").data["actor"] == "anna"
    runs.cancel(run_id=run_id, actor="anna")
    end = stream.hears("end")
    assert end.data == web.client.get(f"/runs/{run_id}").json()
    assert end.data["state"] == "cancelled"
    stream.ends()
    assert stream.names[0] == "snapshot"
    assert stream.names[-2:] == ["run.cancelled", "end"]
    history = RunEvent.objects.filter(run_id=run_id, id__gt=snapshot.id).order_by("id")
    assert stream.told == list(history.values_list("id", flat=True))
    assert snapshot.id < stream.told[0]


def test_stream__of_a_department_tells_of_its_runs_only(web, listen, platform):
    stream = listen(web, "/departments/lab/stream")
    assert stream.hears("snapshot").data == web.client.get("/departments/lab").json()
    other = listen(web, "/departments/finance/stream")
    other.hears("snapshot")
    run_id = runs.submit(automation="lab.squares", input={}, trigger="command").run_id
    told = stream.hears("run.submitted").data
    assert (told["run_id"], told["automation"]) == (str(run_id), "lab.squares")
    lanes.pause(slug="lab", actor="anna")
    tell(run_id, kind="step.warning", code="late")
    assert stream.hears("step.warning").data["data"] == {"code": "late"}
    assert other.names == ["snapshot"]


def test_stream__goes_on_after_the_last_event_id_in_header_or_query(web, listen, run_id):
    ids = [tell(run_id, n=n) for n in range(5)]
    for how in ({"last_event_id": ids[1]}, {}):
        path = f"/runs/{run_id}/stream" + ("" if how else f"?last_event_id={ids[1]}")
        stream = listen(web, path, **how)
        eventually(lambda heard=stream: len(heard.events) >= 3, within=10)
        assert stream.told == ids[2:]
        assert "snapshot" not in stream.names


def test_stream__begins_anew_after_an_id_that_is_unknown(web, listen, run_id):
    for unknown in ("no-number", 2**62, "9" * 40, "-3"):
        stream = listen(web, f"/runs/{run_id}/stream", last_event_id=unknown)
        assert stream.hears("snapshot").data["id"] == str(run_id)


def test_stream__of_a_run_that_has_ended_tells_the_end_at_once(web, listen, run_id):
    runs.cancel(run_id=run_id, actor="anna")
    stream = listen(web, f"/runs/{run_id}/stream")
    stream.ends()
    assert stream.names == ["snapshot", "end"]
    again = listen(web, f"/runs/{run_id}/stream", last_event_id=0)
    again.ends()
    assert again.names[0] == "run.submitted"
    assert again.names[-2:] == ["run.cancelled", "end"]


def test_stream__is_alive_though_nothing_happens(web, listen, run_id):
    stream = listen(web, f"/runs/{run_id}/stream")
    eventually(lambda: len(stream.comments) >= 3, within=10)
    assert set(stream.comments) == {": heartbeat"}


def test_stream__of_a_quiet_department_moves_on_with_the_ids_of_others(web, listen, run_id):
    stream = listen(web, "/departments/finance/stream")
    stream.hears("snapshot")
    last = tell(run_id)
    eventually(lambda: int(stream.last_event_id) >= last, within=10)
    assert stream.names == ["snapshot"]
