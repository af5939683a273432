"""Name the deliveries of webhooks as people do; no table changes."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("engine", "0022_names_people_read")]

    operations = [
        migrations.AlterModelOptions(
            name="webhookdelivery", options={"verbose_name_plural": "webhook deliveries"}
        ),
    ]
