"""I11: a schedule fires at most once per fire time. The engine knows no schedule, so this is here.

A fire's run has the business key `schedule:<id>:<fire time>`. That an automation has it once is the
database's constraint; a schedule that was pointed at another automation could still fire twice.
"""

from __future__ import annotations

from engine.invariants.surveys import Check, Survey

FIRES = Survey(
    name="fires",
    before="""
        doubled AS (
            SELECT dedupe_key FROM engine_run
            WHERE trigger = 'schedule' AND dedupe_key IS NOT NULL
            GROUP BY dedupe_key HAVING count(*) > 1)""",
    source="""
        FROM engine_run r LEFT JOIN doubled d ON d.dedupe_key = r.dedupe_key
        WHERE r.trigger = 'schedule'""",
    run_id="r.id",
    facts={"key": "r.dedupe_key"},
    checks=(
        Check(
            name="schedule_fires_once",
            invariant="I11",
            broken="d.dedupe_key IS NOT NULL",
            says="is one of several runs of the fire {key}",
            remedy="Find out which one counts; cancel or ignore the other.",
        ),
        Check(
            name="fire_has_a_key",
            invariant="I11",
            broken="r.dedupe_key IS NULL OR r.dedupe_key NOT LIKE 'schedule:%%'",
            says="was started by a schedule without the key of its fire: nothing keeps it single",
            remedy="Report it: every fire must have the business key schedule:<id>:<fire time>.",
        ),
    ),
)

SCHEDULES = Survey(
    name="schedules",
    source="FROM departments_schedule c",
    facts={"name": "c.name", "next": "c.next_fire_at", "last": "c.last_fire_at"},
    checks=(
        Check(
            name="schedule_moves_on",
            invariant="I11",
            broken="c.next_fire_at <= c.last_fire_at",
            says="schedule {name} fires next at {next}, not after its last fire at {last}",
            remedy="Save the schedule again in the admin: that sets its next fire time.",
        ),
    ),
)
