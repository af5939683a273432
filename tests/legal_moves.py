"""A trigger that refuses every pair of states that is not in `engine.states` (tests only)."""

from __future__ import annotations

from django.db import connection

from engine.states import RUN_TRANSITIONS, STEP_TRANSITIONS

TABLES = {"engine_run": RUN_TRANSITIONS, "engine_steprun": STEP_TRANSITIONS}


def install() -> None:
    """Put the triggers on both tables."""
    with connection.cursor() as cursor:
        for table, moves in TABLES.items():
            pairs = ", ".join(
                f"('{before}', '{after}')" for before in moves for after in moves[before]
            )
            cursor.execute(
                f"""
                CREATE OR REPLACE FUNCTION legal_{table}() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN
                    IF OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN ({pairs}) THEN
                        RAISE EXCEPTION 'illegal move of {table}: % -> %', OLD.state, NEW.state;
                    END IF;
                    RETURN NEW;
                END $$;
                DROP TRIGGER IF EXISTS legal_moves ON {table};
                CREATE TRIGGER legal_moves BEFORE UPDATE ON {table}
                    FOR EACH ROW EXECUTE FUNCTION legal_{table}();
                """
            )
