"""Let a business key go on to a later run when its window has passed or its run has ended."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("engine", "0023_webhook_deliveries")]

    operations = [
        migrations.AddField(
            model_name="run",
            name="released_key",
            field=models.CharField(blank=True, db_default="", default="", max_length=255),
        ),
        migrations.AddField(
            model_name="run",
            name="released_at_end",
            field=models.BooleanField(db_default=False, default=False),
        ),
    ]
