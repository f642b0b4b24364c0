"""The durable record of changes: see `keybits.changes`."""

from django.db import migrations

from keybits import changes


def forwards(apps, schema_editor):
    changes.install(schema_editor)


def backwards(apps, schema_editor):
    changes.uninstall(schema_editor)


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [migrations.RunPython(forwards, backwards)]
