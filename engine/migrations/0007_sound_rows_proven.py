"""Look at every row once, under a lock that stops nobody: PostgreSQL then knows they are sound."""

from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("engine", "0006_sound_rows")]

    operations = [
        ValidateConstraint(model_name=model, name=f"{model}_is_sound")
        for model in ("run", "steprun")
    ]
