"""Let whoever may work with the tables have them analyzed: ANALYZE itself is the owner's right."""

from django.db import migrations

# The right to MAINTAIN would do, but PostgreSQL 15 and 16 do not have it.
ANALYZE = """
CREATE FUNCTION engine_analyze(wanted text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF wanted !~ '^engine_[a-z]+$' THEN
        RAISE EXCEPTION 'only tables of the engine are analyzed here';
    END IF;
    EXECUTE format('ANALYZE (SKIP_LOCKED) %I', wanted);
END $$
"""


class Migration(migrations.Migration):
    dependencies = [("engine", "0018_audit_digests")]

    operations = [migrations.RunSQL(ANALYZE, "DROP FUNCTION engine_analyze(text)")]
