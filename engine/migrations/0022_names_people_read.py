"""Call things on their pages as the menu does. Nothing changes in the database."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("engine", "0021_run_traceparent")]

    operations = [
        migrations.AlterModelOptions(name="artifact", options={"verbose_name": "file"}),
        migrations.AlterModelOptions(name="webhookendpoint", options={"verbose_name": "webhook"}),
        migrations.AlterModelOptions(name="workerpresence", options={"verbose_name": "worker"}),
    ]
