"""The chain: nothing is left out of it, and nothing in it can be changed without being named."""

from __future__ import annotations

import hashlib
import json
from io import StringIO

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection, transaction

from engine.audit import origin, sealing, trail, verification
from engine.audit.sealing import Sealer
from engine.models import AuditRecord, AuditSeal
from tests.eventually import eventually
from tests.integration.commands.test_commands import command, refused

pytestmark = pytest.mark.django_db(transaction=True)


def record(number=1, **values):
    for n in range(number):
        trail.record("thing.do", kind="thing", id=n, **values)


def sealed(sealer=None):
    """Seal until every record is in the chain."""
    sealer = sealer or Sealer()

    def done() -> bool:
        sealer.turn()
        return verification.verify().unsealed == 0

    eventually(done, within=10, what="everything sealed")


def ids_in_chain() -> list[int]:
    return [pk for row in AuditSeal.objects.order_by("number") for pk in row.record_ids]


def owner(*statements):
    """Do what only the owner of the tables can: past the triggers."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        try:
            for statement in statements:
                cursor.execute(statement)
        finally:
            cursor.execute("SET session_replication_role = origin")


def named(**expected):
    found = verification.verify()
    assert not found.sound
    return [(one.record, one.seal, one.what) for one in found.findings]


@pytest.fixture
def chain(monkeypatch):
    """Three seals of two records each."""
    monkeypatch.setattr("engine.audit.sealing.BATCH", 2)
    record(6, after={"state": "new", "priority": 1})
    sealed()
    assert AuditSeal.objects.count() == 3
    return list(AuditRecord.objects.order_by("id").values_list("pk", flat=True))


def test_seal__is_made_of_every_record_once(chain):
    rows = AuditSeal.objects.order_by("number")
    assert [pk for row in rows for pk in row.record_ids] == chain
    assert [row.number for row in rows] == [1, 2, 3]
    found = verification.verify()
    assert (found.sound, found.records, found.seals, found.unsealed) == (True, 6, 3, 0)
    assert found.head == f"3:{rows[2].digest}"
    Sealer().turn()
    assert AuditSeal.objects.count() == 3


def test_seal__takes_a_record_that_is_committed_after_later_ones():
    """Of a long transaction: its ids and its number are lower than what is sealed already."""
    sealer = Sealer()
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": None}) as other:
        with transaction.atomic():
            record()
        late = dict.fromkeys(("id", "address", "request_id"), "") | {
            "source": "system",
            "actor": "late",
            "action": "thing.do",
            "outcome": "done",
            "kind": "thing",
            "before": None,
            "after": None,
        }
        psycopg.Cursor(other).execute(trail.INSERT, late)
        record(2)
        sealer.turn()
        sealer.turn()
        visible = set(AuditRecord.objects.values_list("pk", flat=True))
        assert len(visible) == 3
        in_chain = set(ids_in_chain())
        # What began before the open transaction is sealed, what came after it waits for it.
        assert len(in_chain) == 1
        other.commit()
    sealed(sealer)
    everything = ids_in_chain()
    assert sorted(everything) == list(
        AuditRecord.objects.order_by("id").values_list("pk", flat=True)
    )
    assert len(everything) == 4
    assert verification.verify().sound


def test_seal__of_one_large_transaction_goes_on_where_the_last_one_ended(monkeypatch):
    monkeypatch.setattr("engine.audit.sealing.BATCH", 10)
    with transaction.atomic():
        record(35)
    sealed()
    assert [len(row.record_ids) for row in AuditSeal.objects.order_by("number")] == [10, 10, 10, 5]
    assert verification.verify().sound


@pytest.mark.parametrize("statement", [sealing.FINAL, sealing.LEFT_OUT, verification.UNSEALED])
def test_seal__looks_records_up_by_the_index_though_the_manager_plans_no_bitmaps(statement):
    """Also while there are few seals: the plan is kept while they become many."""
    given = {"since": 0, "id": 0, "limit": 5, "after": 0, "page": 5}
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
        sealing.plan_look_ups()
        cursor.execute(f"EXPLAIN {statement}", given)
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "audit_sealed" in plan
    assert "Seq Scan on engine_auditseal" not in plan


def test_seal__goes_on_in_a_restored_database_that_counts_anew():
    record(2)
    sealed()
    owner("UPDATE engine_auditseal SET horizon = horizon + 1000000000")
    # Written after the restore, before a manager is there again.
    record(1)
    sealer = Sealer()
    sealed(sealer)
    record(2)
    sealed(sealer)
    assert verification.verify().sound
    assert sum(map(len, AuditSeal.objects.values_list("record_ids", flat=True))) == 5


def test_seal__finds_what_was_under_way_when_the_database_was_saved(chain):
    """Numbers of another server, ahead of this one's: their transactions are over."""
    record(1)
    last = AuditRecord.objects.latest("id").pk
    owner(f"UPDATE engine_auditrecord SET transaction_id = 1 << 40 WHERE id = {last}")
    sealed()
    assert verification.verify().sound


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("actor", "'somebody else'"),
        ("at", "at - interval '1 microsecond'"),
        ("after", """'{"state": "old", "priority": 1}'"""),
        ("before", "'{}'"),
        ("outcome", "'refused'"),
        ("transaction_id", "transaction_id - 1"),
    ],
)
def test_verify__names_a_record_that_the_owner_has_edited(chain, column, value):
    owner(f"UPDATE engine_auditrecord SET {column} = {value} WHERE id = {chain[3]}")
    assert named() == [(chain[3], 2, "was changed")]


def test_verify__names_a_record_that_was_deleted(chain):
    owner(f"DELETE FROM engine_auditrecord WHERE id = {chain[0]}")
    assert named() == [(chain[0], 1, "was deleted")]


def test_verify__names_a_record_that_was_put_into_the_middle(chain):
    columns = "source, actor, action, outcome, object_kind, object_id, address, request_id"
    put = (
        f"INSERT INTO engine_auditrecord (id, at, transaction_id, {columns})"
        f" SELECT id + 1000000, at, transaction_id, {columns} FROM engine_auditrecord"
        f" WHERE id = {chain[1]}"
    )
    owner(put)
    (finding,) = named()
    assert finding[0] == chain[1] + 1000000
    assert "was put in later" in finding[2]
    # Sealed by the next manager, it is still found.
    sealed()
    assert [one[:2] for one in named()] == [(chain[1] + 1000000, 4)]


def test_verify__names_a_record_that_is_dated_back_under_a_new_number(chain):
    record(1)
    last = AuditRecord.objects.latest("id").pk
    owner(f"UPDATE engine_auditrecord SET at = at - interval '2 hours' WHERE id = {last}")
    assert [one[0] for one in named()] == [last]


def test_verify__names_an_edited_record_whose_digest_was_edited_too(chain):
    row = AuditRecord.objects.get(pk=chain[2])
    row.actor = "eve"
    from engine.audit import canonical  # noqa: PLC0415 - what a forger would use

    digest = canonical.digest(canonical.record(row))
    owner(
        f"UPDATE engine_auditrecord SET actor = 'eve' WHERE id = {chain[2]}",
        f"UPDATE engine_auditseal SET record_digests[1] = '{digest}' WHERE number = 2",
    )
    assert named() == [(None, 2, "was changed")]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("UPDATE engine_auditseal SET at = now() WHERE number = 2", [(None, 2, "was changed")]),
        (
            "DELETE FROM engine_auditseal WHERE number = 2",
            [
                (None, 2, "is missing"),
                (None, 3, "does not follow the seal before it"),
            ],
        ),
    ],
)
def test_verify__names_a_seal_that_was_changed_or_is_gone(chain, statement, expected):
    owner(statement)
    assert [one for one in named() if one[0] is None] == expected


def test_verify__names_a_seal_at_the_end_by_the_anchor_only(chain):
    anchor = verification.head()
    owner(
        "DELETE FROM engine_auditseal WHERE number = 3",
        f"DELETE FROM engine_auditrecord WHERE id >= {chain[4]}",
    )
    assert verification.verify().sound
    found = verification.verify(anchor=anchor)
    assert [(one.seal, "missing" in one.what) for one in found.findings] == [(3, True)]


def test_verify__knows_a_chain_that_was_written_anew_by_the_anchor(chain):
    anchor = verification.head()
    owner(
        "DELETE FROM engine_auditseal", "UPDATE engine_auditrecord SET actor = 'eve' WHERE id > 0"
    )
    sealed()
    assert verification.verify().sound
    (finding,) = verification.verify(anchor=anchor).findings
    assert "anew" in finding.what


def test_command__verify_exits_1_and_says_what(chain):
    assert "is sound: 6 records in 3 seals, 0 not sealed yet" in command("audit", "verify")
    head = verification.head()
    assert f"Head: {head}" in command("audit", "verify", "--anchor", head)
    owner(f"UPDATE engine_auditrecord SET actor = 'eve' WHERE id = {chain[3]}")
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("audit", "verify", stdout=out)
    assert ended.value.code == 1
    assert f"Record {chain[3]} of seal 2 was changed" in out.getvalue()
    assert "anchor" in refused("audit", "verify", "--anchor", "nonsense")


def test_export__can_be_verified_by_somebody_else(chain):
    """With nothing but JSON and SHA-256."""
    record(1)
    lines = [json.loads(line) for line in command("audit", "export").splitlines()]

    def form(value) -> bytes:
        made = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return made.encode()

    previous, batch, seen = "0" * 64, [], 0
    for line in lines:
        if "record" in line:
            digest = hashlib.sha256(form(line["record"])).hexdigest()
            batch.append([line["record"]["id"], digest])
        elif "seal" in line:
            seal = line["seal"]
            sealed_form = {
                "number": seal["number"],
                "at": seal["at"],
                "previous": previous,
                "records": batch,
            }
            assert seal["previous"] == previous
            assert [identity for identity, _digest in batch] == seal["record_ids"]
            previous = hashlib.sha256(form(sealed_form)).hexdigest()
            assert seal["digest"] == previous
            batch, seen = [], seen + 1
    assert seen == 3
    assert sum("unsealed" in line for line in lines) == 1
    assert lines[-1] == {"head": f"3:{previous}"}


def test_export__of_a_time_has_whole_seals(chain):
    second = AuditSeal.objects.get(number=2)
    lines = command(
        "audit", "export", "--since", second.at.isoformat(), "--until", second.at.isoformat()
    ).splitlines()
    found = [json.loads(line) for line in lines]
    assert [one["seal"]["number"] for one in found if "seal" in one] == [2]
    assert [one["record"]["id"] for one in found if "record" in one] == second.record_ids
    assert "moment" in refused("audit", "export", "--since", "yesterday")


def test_list__filters():
    with origin.of(origin.Origin(source="api", actor="ann", request_id="r1")):
        trail.record("run.cancel", kind="run", id="1")
    trail.record("run.pause", kind="run", id="2", actor="bob")

    def ids(*words):
        return [row["object_id"] for row in json.loads(command("audit", "list", *words, "--json"))]

    assert ids() == ["2", "1"]
    for words in (
        ("--actor", "ann"),
        ("--action", "run.cancel"),
        ("--source", "api"),
        ("--id", "1"),
        ("--request-id", "r1"),
    ):
        assert ids(*words) == ["1"], words
    assert ids("--since", "2100-01-01") == []
    assert ids("--limit", "1") == ["2"]
    assert "run.cancel" in command("audit", "list")
