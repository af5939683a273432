"""The registry of tokens for machines."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from io import StringIO

import jwt
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from engine.access import bearers, snapshot, usage
from engine.models import MachineToken
from tests.eventually import eventually
from tests.integration.faces import ApiClient

pytestmark = pytest.mark.django_db


def said(*words: str) -> str:
    output = StringIO()
    call_command(*words, stdout=output)
    return output.getvalue()


def minted(*more: str) -> str:
    return said("mint_jwt", "--scopes", "runs.read,artifacts.*", *more).strip()


def test_mint__prints_the_token_only_and_writes_down_who_has_it():
    found = minted("--subject", "nightly", "--ttl", "600")
    row = MachineToken.objects.get()
    claims = jwt.decode(found, options={"verify_signature": False})
    assert (row.jti, row.subject, row.scopes) == (
        claims["jti"],
        "nightly",
        ["runs.read", "artifacts.*"],
    )
    assert abs((row.expires_at - row.created_at) - timedelta(seconds=600)) < timedelta(seconds=1)
    assert row.created_by.startswith("command:")
    stored = json.dumps(list(MachineToken.objects.values()), default=str)
    assert found.rpartition(".")[2] not in stored


@pytest.mark.parametrize("wrong", [["--ttl", "0"], ["--subject", "x" * 151], ["--subject", "\n\0"]])
def test_mint__refuses_and_writes_nothing(wrong):
    with pytest.raises(CommandError):
        minted(*wrong)
    assert not MachineToken.objects.exists()


def test_list__shows_what_is_good_and_all_on_request():
    minted("--subject", "nightly")
    minted("--subject", "hourly")
    gone = minted("--subject", "gone")
    MachineToken.objects.filter(subject="gone").update(expires_at=datetime.now(UTC))
    shown = said("tokens", "list")
    assert "nightly" in shown
    assert "never" in shown
    assert "gone" not in shown
    rows = json.loads(said("tokens", "list", "--all", "--json"))
    assert [(row["subject"], row["standing"]) for row in rows] == [
        ("gone", "expired"),
        ("hourly", "active"),
        ("nightly", "active"),
    ]
    assert gone.rpartition(".")[2] not in json.dumps(rows)
    assert len(json.loads(said("tokens", "list", "--json", "--subject", "hourly"))) == 1


def test_use__costs_the_request_no_statement():
    client = ApiClient()
    client.bearer = minted()
    assert client.get("/auth/me").status_code == 200
    with CaptureQueriesContext(connection) as statements:
        assert client.get("/auth/me").status_code == 200
    assert list(statements) == []


@pytest.mark.django_db(transaction=True)
def test_use__is_written_once_a_minute():
    found = minted()
    bearers.verified(found)
    row = MachineToken.objects.get()
    first = eventually(lambda: _used(row), within=10, what="last use written")
    for _ in range(3):
        bearers.verified(found)
    usage._Process.noted.clear()  # as another process, which knows of no use yet
    assert usage.write([row.jti]) == 0
    assert _used(row) == first
    MachineToken.objects.update(last_used_at=first - timedelta(seconds=61))
    assert usage.write([row.jti]) == 1
    assert _used(row) > first


def _used(row):
    return MachineToken.objects.values_list("last_used_at", flat=True).get(pk=row.pk)


def test_token__of_nobody_here_is_not_written_down():
    client = ApiClient("runs.read")
    usage._Process.noted.clear()
    assert client.get("/auth/me").status_code == 200
    assert usage._Process.noted == {}
    assert snapshot.current().revocations.token == {}
