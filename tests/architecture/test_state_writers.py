"""State has one writer: `engine.transitions`. Nobody else may even spell such a write."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from django.db import connection

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("engine", "departments", "orchestration", "config")
#: Tables whose rows have a state that only transitions may write.
SQL_WRITE = re.compile(
    r"(UPDATE\s+(ONLY\s+)?|INSERT\s+INTO\s+)engine_(run|steprun|deadletter|effect)\b",
    re.IGNORECASE,
)
MODELS = {"Run", "StepRun", "DeadLetter", "Effect"}


def sources():
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            inside = path.relative_to(ROOT)
            if "migrations" in inside.parts or inside.parts[:2] == ("engine", "transitions"):
                continue
            yield inside, path.read_text()


def offences(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if SQL_WRITE.search(node.value):
                found.append(f"line {node.lineno}: SQL write")
        elif isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found += [
                f"line {node.lineno}: assigns .state"
                for target in targets
                if isinstance(target, ast.Attribute)
                and target.attr == "state"
                # An object's own word, of no row: models have no methods that assign.
                and ast.unparse(target.value) != "self"
            ]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            names = {keyword.arg for keyword in node.keywords}
            if node.func.attr in {"update", "update_or_create"} and "state" in names:
                found.append(f"line {node.lineno}: .update(state=…)")
            base = ast.unparse(node.func.value)
            creates = node.func.attr in {"create", "bulk_create", "bulk_update", "save"}
            if creates and base.split(".")[0] in MODELS:
                found.append(f"line {node.lineno}: {base}.{node.func.attr}")
    return found


def test_state__is_written_by_transitions_only():
    found = {str(path): bad for path, source in sources() if (bad := offences(source))}
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        "sql = 'UPDATE engine_run SET state = 1'",
        "sql = 'insert into engine_steprun (id) values (1)'",
        "run.state = 'succeeded'",
        "Run.objects.filter(pk=1).update(state='failed')",
        "StepRun.objects.create(state='ready')",
    ],
)
def test_detector__sees_each_way_of_writing(source):
    assert offences(source)


@pytest.mark.django_db(transaction=True)
def test_database__transitions_are_legal_pair_by_pair(legal_moves_only, line, tmp_path):
    """The trigger refuses an illegal pair; a whole life passes it."""
    from engine import runs  # noqa: PLC0415 - needs settings
    from engine.models import Run  # noqa: PLC0415 - needs settings

    run_id = runs.submit(automation="lab.squares", input={"count": 2}, trigger="api").run_id
    line.deliver()
    assert Run.objects.get(pk=run_id).state == "succeeded"
    with connection.cursor() as cursor, pytest.raises(Exception, match="illegal move"):
        cursor.execute("UPDATE engine_run SET state = 'running', finished_at = NULL")
