"""Effects of a real worker whose process is killed at the worst moment."""

from __future__ import annotations

import pytest

from engine import effects, runs
from engine.models import Effect, StepRun
from tests.eventually import eventually
from tests.integration.orchestration.processes import manager, worker

TIME_TO_RECOVER_SECONDS = 30


@pytest.fixture
def killed(started, outside, tmp_path):
    """Submit a run whose worker's process is killed at the given moment of its one call."""

    def submit(moment: str, *, idempotent: bool = False):
        manager(started)
        worker(started)
        (tmp_path / f"die_{moment}").touch()
        values = {"url": outside.url, "folder": str(tmp_path), "idempotent": idempotent}
        return runs.submit(automation="lab.outside", input=values, trigger="command").run_id

    return submit


def until(run_id, state: str) -> StepRun:
    return eventually(
        lambda: StepRun.objects.filter(run_id=run_id, state=state).first(),
        within=TIME_TO_RECOVER_SECONDS,
        what=state,
    )


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "calls"), [(effects.confirm, 1), (effects.retry, 2)])
def test_worker__killed_between_call_and_record_asks(killed, outside, answer, calls):
    run_id = killed("after_call")
    row = until(run_id, "awaiting")
    found = Effect.objects.get()
    assert (row.claim, row.error_code, row.crashes) == (None, "effect_unknown", 1)
    assert (found.state, found.error_code) == ("unknown", "attempt_lost")
    assert outside.calls == {found.key: 1}
    answer(effect_id=found.pk, actor="ann")
    until(run_id, "succeeded")
    assert outside.calls == {found.key: calls}
    assert StepRun.objects.get(run_id=run_id).failures == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "idempotent", "calls"),
    [("after_call", True, 2), ("before_call", True, 1), ("after_effect", False, 1)],
)
def test_worker__killed_where_nothing_is_in_doubt_recovers_by_itself(
    killed, outside, moment, idempotent, calls
):
    run_id = killed(moment, idempotent=idempotent)
    row = until(run_id, "succeeded")
    assert row.crashes == 1
    assert outside.calls == {Effect.objects.get().key: calls}
