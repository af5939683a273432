"""Tell PostgreSQL anew how large its tables are, when they have outgrown what it knows of them.

Plans are made once and kept (`plan_cache_mode`). Those that were made while a table was empty read
all of it; autovacuum would correct that after up to a minute, in which every step pays. ANALYZE
makes every session plan again.
"""

from __future__ import annotations

from django.db import connection

from orchestration.manager.loop import Loop

#: Tables whose statements are hot.
TABLES = (
    *("engine_run", "engine_steprun", "engine_stepoutput", "engine_stepinput"),
    *("engine_lease", "engine_runevent", "engine_outboxevent"),
)
#: A table this many times as large as its statistics say has outgrown them, from so many pages on.
GROWTH, FEW_PAGES = 4, 10

OUTGROWN = """
SELECT c.relname FROM pg_class c
WHERE c.oid = ANY(%s::regclass[])
  AND pg_relation_size(c.oid) / current_setting('block_size')::int
    > %s * GREATEST(c.relpages, %s)
"""


class Statistics(Loop):
    """Look at the sizes of a few files; a thousandfold growth is five ANALYZE of a table."""

    name = "statistics"
    interval = 2.0

    def tick(self) -> bool:
        """Analyze what has outgrown its statistics."""
        with connection.cursor() as cursor:
            cursor.execute(OUTGROWN, [list(TABLES), GROWTH, FEW_PAGES])
            for (table,) in cursor.fetchall():
                # Who holds the table's lock is autovacuum, or a migration: then next time.
                cursor.execute("SELECT engine_analyze(%s)", [table])
        return False
