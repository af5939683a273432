"""Keep answers under their keys; the version of a run is looked up by the statement that starts it."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('engine', '0008_steps_of_runs'),
    ]

    operations = [
        migrations.CreateModel(
            name='IdempotentAnswer',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('subject', models.CharField(max_length=150)),
                ('call', models.CharField(max_length=200)),
                ('key', models.CharField(max_length=255)),
                ('fingerprint', models.CharField(max_length=64)),
                ('status', models.SmallIntegerField()),
                ('location', models.CharField(blank=True, default='', max_length=200)),
                ('body', models.JSONField()),
                ('expires_at', models.DateTimeField()),
            ],
        ),
        migrations.AlterField(
            model_name='run',
            name='version',
            field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='runs', to='engine.automationversion'),
        ),
        migrations.AddIndex(
            model_name='idempotentanswer',
            index=models.Index(fields=['expires_at'], name='idempotent_expiry'),
        ),
        migrations.AddConstraint(
            model_name='idempotentanswer',
            constraint=models.UniqueConstraint(fields=('subject', 'call', 'key'), name='idempotent_once'),
        ),
    ]
