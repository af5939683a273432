"""Count failed sign-ins."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("engine", "0011_role_grants")]

    operations = [
        migrations.CreateModel(
            name="Lockout",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("account", "account, from places it never signed in from"),
                            ("address", "address, for accounts that never signed in from there"),
                            ("pair", "account, from a place it has signed in from"),
                        ],
                        max_length=10,
                    ),
                ),
                ("key", models.CharField(max_length=64, unique=True)),
                ("account", models.CharField(blank=True, default="", max_length=150)),
                ("address", models.CharField(blank=True, default="", max_length=50)),
                ("failures", models.IntegerField(default=0)),
                ("last_failed_at", models.DateTimeField(null=True)),
                ("locked_until", models.DateTimeField(null=True)),
                ("succeeded_at", models.DateTimeField(null=True)),
                ("kept_until", models.DateTimeField()),
            ],
            options={
                "indexes": [models.Index(fields=["kept_until"], name="lockout_kept_until")],
            },
        ),
    ]
