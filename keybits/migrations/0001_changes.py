"""The durable record of changes: see `keybits.changes`."""

from django.db import migrations

from keybits import changes, triggers


def forwards(apps, schema_editor):
    changes.install(schema_editor)


def backwards(apps, schema_editor):
    triggers.drop_all(schema_editor.connection)
    changes.uninstall(schema_editor)


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [migrations.RunPython(forwards, backwards)]
