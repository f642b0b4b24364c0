"""The table that names the store in which the record of changes is closed: see `keybits.fencing`."""

from django.db import migrations

from keybits import changes


def forwards(apps, schema_editor):
    changes.install_store_name(schema_editor)


def backwards(apps, schema_editor):
    changes.uninstall_store_name(schema_editor)


class Migration(migrations.Migration):
    dependencies = [("keybits", "0002_idempotency_keys")]
    operations = [migrations.RunPython(forwards, backwards)]
