"""Give users a role for the permissions they had: roles decide now.

Never more rights to write than before: operator for whoever held every permission to change that
an operator has, in a group or alone; viewer for whoever held any permission to see or change.
"""

from django.conf import settings
from django.db import migrations

SEE = {
    ("engine", "view_run"),
    ("engine", "view_artifact"),
    ("engine", "view_deadletter"),
    ("engine", "view_effect"),
    ("departments", "view_department"),
    ("departments", "view_automation"),
    ("departments", "view_schedule"),
}
CHANGE = {
    ("engine", "change_run"),
    ("engine", "change_deadletter"),
    ("departments", "change_department"),
    ("departments", "change_schedule"),
}


def translate(apps, _schema_editor):
    users = apps.get_model(settings.AUTH_USER_MODEL)
    grants = apps.get_model("engine", "RoleGrant")
    for user in users.objects.filter(is_superuser=False):
        rows = list(user.user_permissions.values_list("content_type__app_label", "codename"))
        for group in user.groups.all():
            rows += group.permissions.values_list("content_type__app_label", "codename")
        held = set(rows)
        role = "operator" if held >= CHANGE else "viewer" if held & (SEE | CHANGE) else ""
        if role:
            grants.objects.get_or_create(user=user, role=role, department="")


class Migration(migrations.Migration):
    dependencies = [
        ("engine", "0015_tokens"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [migrations.RunPython(translate, migrations.RunPython.noop)]
