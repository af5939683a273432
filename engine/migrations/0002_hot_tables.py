"""Room for HOT updates and an eager autovacuum on the tables that every step updates."""

from django.db import migrations

HOT = (
    "ALTER TABLE {table} SET (fillfactor = {fill}, autovacuum_vacuum_scale_factor = 0.02,"
    " autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 1)"
)
BACK = (
    "ALTER TABLE {table} RESET (fillfactor, autovacuum_vacuum_scale_factor,"
    " autovacuum_vacuum_threshold, autovacuum_vacuum_cost_delay)"
)
TABLES = {"engine_steprun": 80, "engine_run": 80, "engine_lease": 50, "engine_outboxevent": 90}


class Migration(migrations.Migration):
    dependencies = [("engine", "0001_initial")]

    operations = [
        migrations.RunSQL(HOT.format(table=table, fill=fill), BACK.format(table=table))
        for table, fill in TABLES.items()
    ]
