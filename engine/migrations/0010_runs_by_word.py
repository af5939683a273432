"""Index correlation ids and error codes of runs, beside the work that goes on."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("engine", "0009_idempotency")]

    operations = [
        AddIndexConcurrently(
            "run",
            models.Index(
                fields=["correlation_id", "id"],
                name="run_by_correlation",
                condition=~models.Q(correlation_id=""),
            ),
        ),
        AddIndexConcurrently(
            "run",
            models.Index(
                fields=["error_code", "id"],
                name="run_by_error",
                condition=~models.Q(error_code=""),
            ),
        ),
    ]
