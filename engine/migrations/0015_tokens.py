"""Keep the keyring, the tokens and sign-ins that are known, and what was revoked.

The trigger sees every way in which a user is changed: the admin, a command, another program.
"""

from django.conf import settings
from django.db import migrations, models
import django.contrib.postgres.fields

USER_CHANGED = """
CREATE FUNCTION engine_user_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    raised bigint;
BEGIN
    -- As engine.access.versions: first the number, then the sign-ins.
    INSERT INTO engine_accessversion AS v (id, version) VALUES (1, 1)
    ON CONFLICT (id) DO UPDATE SET version = v.version + 1
    RETURNING version INTO raised;
    INSERT INTO engine_revocation AS r (kind, value, version, revoked_at, revoked_by, expires_at)
    VALUES ('user', OLD.id::text, raised, clock_timestamp(), 'change of the user',
        clock_timestamp() + interval '1 year')
    ON CONFLICT (kind, value) DO UPDATE SET version = excluded.version,
        revoked_at = excluded.revoked_at, revoked_by = excluded.revoked_by,
        expires_at = greatest(r.expires_at, excluded.expires_at);
    -- Who lost only the rights of a superuser stays signed in: the next token has those of then.
    IF TG_OP = 'DELETE' OR OLD.password <> NEW.password OR OLD.username <> NEW.username
        OR NOT NEW.is_active THEN
        UPDATE engine_signin
        SET revoked_at = clock_timestamp(), revoked_by = 'change of the user'
        WHERE user_id = OLD.id AND revoked_at IS NULL;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER engine_user_deleted AFTER DELETE ON auth_user
FOR EACH ROW EXECUTE FUNCTION engine_user_changed();
CREATE TRIGGER engine_user_changed AFTER UPDATE ON auth_user
FOR EACH ROW WHEN (OLD.password <> NEW.password OR OLD.username <> NEW.username
    OR (OLD.is_active AND NOT NEW.is_active) OR (OLD.is_superuser AND NOT NEW.is_superuser))
EXECUTE FUNCTION engine_user_changed();
"""
BACK = """
DROP TRIGGER engine_user_changed ON auth_user;
DROP TRIGGER engine_user_deleted ON auth_user;
DROP FUNCTION engine_user_changed();
"""


class Migration(migrations.Migration):
    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("engine", "0014_runtag"),
    ]

    operations = [
        migrations.CreateModel(
            name='AccessVersion',
            fields=[
                ('id', models.SmallIntegerField(primary_key=True, serialize=False)),
                ('version', models.BigIntegerField()),
            ],
        ),
        migrations.CreateModel(
            name='MachineToken',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('jti', models.CharField(max_length=32, unique=True)),
                ('subject', models.CharField(max_length=150)),
                ('scopes', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=200), size=None)),
                ('kid', models.CharField(max_length=32)),
                ('created_at', models.DateTimeField()),
                ('created_by', models.CharField(max_length=150)),
                ('expires_at', models.DateTimeField()),
                ('last_used_at', models.DateTimeField(blank=True, null=True)),
                ('revoked_at', models.DateTimeField(blank=True, null=True)),
                ('revoked_by', models.CharField(blank=True, default='', max_length=150)),
            ],
            options={
                'verbose_name': 'token',
                'indexes': [models.Index(fields=['subject', 'id'], name='machinetoken_of_subject')],
            },
        ),
        migrations.CreateModel(
            name='Revocation',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('kind', models.CharField(choices=[('token', 'token'), ('sign_in', 'sign_in'), ('subject', 'subject'), ('user', 'user')], max_length=7)),
                ('value', models.CharField(max_length=150)),
                ('version', models.BigIntegerField()),
                ('revoked_at', models.DateTimeField()),
                ('revoked_by', models.CharField(max_length=150)),
                ('expires_at', models.DateTimeField()),
            ],
            options={
                'indexes': [models.Index(fields=['version'], name='revocation_since'), models.Index(fields=['expires_at'], name='revocation_expiry')],
                'constraints': [models.UniqueConstraint(fields=('kind', 'value'), name='revocation_once'), models.CheckConstraint(condition=models.Q(('kind__in', ['token', 'sign_in', 'subject', 'user'])), name='revocation_kind_known')],
            },
        ),
        migrations.CreateModel(
            name='SignIn',
            fields=[
                ('id', models.UUIDField(primary_key=True, serialize=False)),
                ('user_id', models.BigIntegerField()),
                ('subject', models.CharField(max_length=150)),
                ('current', models.CharField(max_length=32)),
                ('previous', models.CharField(blank=True, default='', max_length=32)),
                ('kid', models.CharField(max_length=32)),
                ('created_at', models.DateTimeField()),
                ('refreshed_at', models.DateTimeField()),
                ('expires_at', models.DateTimeField()),
                ('revoked_at', models.DateTimeField(blank=True, null=True)),
                ('revoked_by', models.CharField(blank=True, default='', max_length=150)),
            ],
            options={
                'indexes': [models.Index(fields=['user_id'], name='signin_of_user'), models.Index(fields=['subject'], name='signin_of_subject'), models.Index(fields=['expires_at'], name='signin_expiry')],
            },
        ),
        migrations.CreateModel(
            name='SigningKey',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('kid', models.CharField(max_length=32, unique=True)),
                ('sealed', models.TextField()),
                ('is_given', models.BooleanField()),
                ('signs', models.BooleanField()),
                ('created_at', models.DateTimeField()),
                ('retired_at', models.DateTimeField(blank=True, null=True)),
                ('dropped_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'constraints': [models.UniqueConstraint(condition=models.Q(('signs', True)), fields=('signs',), name='signingkey_one_signs'), models.CheckConstraint(condition=models.Q(models.Q(('retired_at', None), ('signs', True)), models.Q(('retired_at__isnull', False), ('signs', False)), _connector='OR'), name='signingkey_retired_unless_it_signs'), models.CheckConstraint(condition=models.Q(('dropped_at', None), models.Q(('dropped_at__isnull', False), ('sealed', ''), ('signs', False)), _connector='OR'), name='signingkey_dropped_is_empty')],
            },
        ),
        migrations.RunSQL(USER_CHANGED, BACK),
    ]
