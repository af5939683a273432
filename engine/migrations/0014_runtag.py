"""Keep a row for each tag of each run, so that a page of the runs with a tag costs a page.

The trigger comes before the rows of today, so that none falls between; each statement commits by
itself, so that the lock that creating a trigger takes is not held while the rows are copied.
"""

import django.db.models.deletion
from django.db import migrations, models

# Only tags ever fire it: the condition is judged without a call. What is longer than an index can
# hold is left out; the API takes 100 characters.
KEEP = """
CREATE FUNCTION engine_keep_run_tags() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        DELETE FROM engine_runtag t WHERE t.run_id = NEW.id AND NOT jsonb_exists(NEW.tags, t.tag);
    END IF;
    INSERT INTO engine_runtag (tag, run_id)
    SELECT DISTINCT tag, NEW.id FROM jsonb_array_elements_text(NEW.tags) AS tag
    WHERE octet_length(tag) <= 1000
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER engine_run_tags_of_new AFTER INSERT ON engine_run
    FOR EACH ROW WHEN (NEW.tags <> '[]'::jsonb) EXECUTE FUNCTION engine_keep_run_tags();
CREATE TRIGGER engine_run_tags_of_changed AFTER UPDATE OF tags ON engine_run
    FOR EACH ROW WHEN (NEW.tags IS DISTINCT FROM OLD.tags) EXECUTE FUNCTION engine_keep_run_tags();
"""
FORGET = """
DROP TRIGGER engine_run_tags_of_changed ON engine_run;
DROP TRIGGER engine_run_tags_of_new ON engine_run;
DROP FUNCTION engine_keep_run_tags;
"""
# Whoever deletes a run, in whatever way, deletes its tags.
GO_ALONG = """
ALTER TABLE engine_runtag ADD CONSTRAINT engine_runtag_goes_with_its_run
    FOREIGN KEY (run_id) REFERENCES engine_run (id) ON DELETE CASCADE
"""
COPY = """
INSERT INTO engine_runtag (tag, run_id)
SELECT DISTINCT tag, id FROM engine_run, jsonb_array_elements_text(tags) AS tag
WHERE tags <> '[]'::jsonb AND octet_length(tag) <= 1000
ON CONFLICT DO NOTHING
"""


class Migration(migrations.Migration):

    dependencies = [("engine", "0013_webhooks")]

    operations = [
        migrations.CreateModel(
            name="RunTag",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "tag", "run_id", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("tag", models.TextField()),
                (
                    "run",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="tag_rows",
                        to="engine.run",
                    ),
                ),
            ],
        ),
        migrations.RunSQL(GO_ALONG, migrations.RunSQL.noop),
        migrations.RunSQL(KEEP, FORGET),
        migrations.RunSQL(COPY, migrations.RunSQL.noop),
    ]
