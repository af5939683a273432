"""The history of a run page by page: who asks again and again misses nothing."""

from __future__ import annotations

from functools import partial

import pytest
from django.core.cache import cache

from engine.streaming import horizon
from tests.eventually import eventually
from tests.integration.faces import ApiClient
from tests.integration.streaming.test_tail import insert


@pytest.fixture
def api(settings):
    settings.STATIC_ROOT = None
    cache.clear()
    return ApiClient("runs.read")


def read(api, place):
    """Return the ids of all pages from there on, and where to follow."""
    told = []
    while True:
        body = api.get(place).json()
        told += [row["id"] for row in body["results"]]
        if body["next"] is None:
            return told, body["follow"]
        assert body["follow"] is None
        place = body["next"]


@pytest.mark.parametrize("limit", [1, 2, 200])
def test_events__committed_late_under_a_lower_id_are_not_missed_by_who_follows(
    api, run_id, connect, limit
):
    late, soon = connect(), connect(autocommit=True)
    first = insert(soon, run_id)
    low = insert(late, run_id)
    high = [insert(soon, run_id) for _ in range(3)]
    told, follow = read(api, f"/runs/{run_id}/events?limit={limit}")
    assert [first, *high] == told[-4:]
    # Also while it goes on: what is new is told, whoever holds the rest back.
    high.append(insert(soon, run_id))
    again, follow = read(api, follow)
    assert again[-1] == high[-1]
    late.commit()
    told, follow = read(api, follow)
    assert low in told


def test_events__that_are_final_are_told_once(api, run_id, connect, monkeypatch):
    # However slow this machine is: here nobody keeps a transaction open.
    monkeypatch.setattr(horizon, "settled", partial(horizon.settled, patience_seconds=20))
    soon = connect(autocommit=True)
    place = f"/runs/{run_id}/events?limit=1"
    known = []
    for _ in range(3):
        made = insert(soon, run_id)
        told, place = read(api, place)
        known += told
    assert made == known[-1]
    assert len(known) == len(set(known))
    assert read(api, place)[0] == []


def test_events__page_shows_all_there_is_while_a_transaction_stays_open(api, run_id, connect):
    late, soon = connect(), connect(autocommit=True)
    insert(late, run_id)
    assert horizon.settled(patience_seconds=0.05) is None
    newest = insert(soon, run_id)
    assert read(api, f"/runs/{run_id}/events")[0][-1] == newest
    late.rollback()
    eventually(lambda: (horizon.settled() or 0) >= newest, within=10)
