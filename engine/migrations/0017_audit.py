"""The audit trail: records and seals that are only ever added."""

import django.contrib.postgres.fields
import django.contrib.postgres.indexes
from django.db import migrations, models

# The database's clock and transaction number, whoever inserts. The triggers are the second line:
# the first is that the application's role has no right to change or delete these rows.
GUARDS = """
ALTER TABLE engine_auditrecord
    ALTER COLUMN at SET DEFAULT clock_timestamp(),
    ALTER COLUMN transaction_id SET DEFAULT pg_current_xact_id()::text::bigint;
CREATE FUNCTION engine_audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON engine_auditrecord
    FOR EACH ROW EXECUTE FUNCTION engine_audit_refuse();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON engine_auditseal
    FOR EACH ROW EXECUTE FUNCTION engine_audit_refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON engine_auditrecord
    FOR EACH STATEMENT EXECUTE FUNCTION engine_audit_refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON engine_auditseal
    FOR EACH STATEMENT EXECUTE FUNCTION engine_audit_refuse();
"""
UNGUARD = "DROP FUNCTION engine_audit_refuse CASCADE"


class Migration(migrations.Migration):
    dependencies = [("engine", "0016_roles_of_permissions")]

    operations = [
        migrations.CreateModel(
            name='AuditRecord',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('at', models.DateTimeField()),
                ('source', models.CharField(choices=[('api', 'api'), ('admin', 'admin'), ('command', 'command'), ('hook', 'hook'), ('system', 'system')], max_length=7)),
                ('actor', models.CharField(max_length=150)),
                ('action', models.CharField(max_length=60)),
                ('outcome', models.CharField(choices=[('done', 'done'), ('refused', 'refused')], max_length=7)),
                ('object_kind', models.CharField(max_length=40)),
                ('object_id', models.CharField(max_length=200)),
                ('address', models.CharField(max_length=64)),
                ('request_id', models.CharField(max_length=100)),
                ('before', models.JSONField(null=True)),
                ('after', models.JSONField(null=True)),
                ('transaction_id', models.BigIntegerField()),
            ],
            options={
                'indexes': [models.Index(fields=['transaction_id', 'id'], name='audit_by_transaction'), models.Index(fields=['object_kind', 'object_id', 'id'], name='audit_of_object'), models.Index(fields=['actor', 'id'], name='audit_by_actor'), models.Index(fields=['action', 'id'], name='audit_by_action'), models.Index(fields=['at'], name='audit_by_time')],
                'constraints': [models.CheckConstraint(condition=models.Q(('outcome__in', ['done', 'refused']), ('source__in', ['api', 'admin', 'command', 'hook', 'system'])), name='audit_words_known')],
            },
        ),
        migrations.CreateModel(
            name='AuditSeal',
            fields=[
                ('number', models.BigIntegerField(primary_key=True, serialize=False)),
                ('at', models.DateTimeField()),
                ('record_ids', django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), size=None)),
                ('digest', models.CharField(max_length=64)),
                ('previous', models.CharField(max_length=64, unique=True)),
                ('horizon', models.BigIntegerField()),
            ],
            options={
                'indexes': [django.contrib.postgres.indexes.GinIndex(fastupdate=False, fields=['record_ids'], name='audit_sealed')],
            },
        ),
        migrations.RunSQL(GUARDS, UNGUARD),
    ]
