"""Drop a foreign key whose parent is written or locked by the very statement that inserts."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("engine", "0007_sound_rows_proven")]

    operations = [
        migrations.AlterField(
            model_name="steprun",
            name="run",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="step_runs",
                to="engine.run",
            ),
        ),
    ]
