"""Check the rows of the hot tables by one function call each (engine/README.md, "Decisions").

The new constraints say what those they replace have said, so no row need be looked at again here;
0007 does, beside the work that goes on.
"""

from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models
from django.db.models import F, Func

RUN = """
CREATE FUNCTION engine_run_is_sound(state text, pending integer, finished_at timestamptz)
RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN pending >= 0
        AND CASE WHEN finished_at IS NULL
            THEN state IN ('pending', 'running', 'paused', 'blocked', 'cancelling')
            ELSE state IN ('succeeded', 'failed', 'cancelled', 'timed_out') END;
END $$
"""
STEP_RUN = """
CREATE FUNCTION engine_steprun_is_sound(state text, pending integer, attempt integer,
    failures smallint, claim uuid, finished_at timestamptz)
RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN pending >= 0
        AND attempt >= failures
        AND (state <> 'running' OR claim IS NOT NULL)
        -- It starts after its parents.
        AND (pending = 0
            OR state NOT IN ('ready', 'queued', 'running', 'retry_wait', 'succeeded'))
        AND CASE WHEN finished_at IS NULL
            THEN state IN ('waiting', 'ready', 'queued', 'running', 'retry_wait', 'sleeping',
                'awaiting')
            ELSE state IN ('succeeded', 'failed', 'dead', 'cancelled', 'skipped') END;
END $$
"""
REPLACED = {
    "run": ["run_state_known", "run_finished_iff_terminal", "run_pending_not_negative"],
    "steprun": [
        "steprun_state_known",
        "steprun_finished_iff_terminal",
        "steprun_running_is_claimed",
        "steprun_starts_after_its_parents",
        "steprun_pending_not_negative",
        "steprun_attempt_covers_failures",
    ],
}
COLUMNS = {
    "run": ["state", "pending", "finished_at"],
    "steprun": ["state", "pending", "attempt", "failures", "claim", "finished_at"],
}


class Migration(migrations.Migration):
    dependencies = [("engine", "0005_large_tables")]

    operations = [
        migrations.RunSQL(
            RUN, "DROP FUNCTION engine_run_is_sound(text, integer, timestamptz)"
        ),
        migrations.RunSQL(
            STEP_RUN,
            "DROP FUNCTION"
            " engine_steprun_is_sound(text, integer, integer, smallint, uuid, timestamptz)",
        ),
        *(
            AddConstraintNotValid(
                model_name=model,
                constraint=models.CheckConstraint(
                    name=f"{model}_is_sound",
                    condition=Func(
                        *(F(column) for column in columns),
                        function=f"engine_{model}_is_sound",
                        output_field=models.BooleanField(),
                    ),
                ),
            )
            for model, columns in COLUMNS.items()
        ),
        *(
            migrations.RemoveConstraint(model_name=model, name=name)
            for model, names in REPLACED.items()
            for name in names
        ),
    ]
