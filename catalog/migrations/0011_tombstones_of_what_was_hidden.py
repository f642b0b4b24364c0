"""The triggers that make tombstones, made anew: what was hidden takes none from what everybody saw."""

from django.db import migrations

from catalog import tombstones


def forwards(apps, schema_editor):
    tombstones.drop_triggers(schema_editor.connection)
    tombstones.make_triggers(schema_editor.connection)


class Migration(migrations.Migration):
    dependencies = [("catalog", "0010_fewer_indexes")]

    operations = [migrations.RunPython(forwards, migrations.RunPython.noop)]
