"""The functions of triggers that count tags and remember what was deleted look rows up, whatever they were planned for."""

from django.db import migrations

from catalog import tallies, tombstones


def replace_functions(apps, schema_editor):
    tallies.replace_functions(schema_editor.connection)
    tombstones.replace_functions(schema_editor.connection)


class Migration(migrations.Migration):
    dependencies = [("catalog", "0014_words")]

    operations = [migrations.RunPython(replace_functions, migrations.RunPython.noop)]
