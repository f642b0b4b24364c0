"""The function that wakes relays finds rows by index, whatever PostgreSQL plans: see `keybits.planner`."""

from django.db import migrations

from keybits import changes


def replace_functions(apps, schema_editor):
    changes.replace_functions(schema_editor)


class Migration(migrations.Migration):
    dependencies = [("keybits", "0003_change_holder")]

    operations = [migrations.RunPython(replace_functions, migrations.RunPython.noop)]
