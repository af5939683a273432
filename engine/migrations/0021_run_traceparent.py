"""Keep the W3C trace context of who asked for a run."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("engine", "0020_incoming_hooks")]

    operations = [
        migrations.AddField(
            model_name="run",
            name="traceparent",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="W3C Trace Context",
                max_length=55,
            ),
        ),
    ]
