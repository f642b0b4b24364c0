"""SQLite's search index follows a screenshot that is given another id, too; what it has missed so far is found again."""

from django.db import migrations

from catalog import search


def renew_triggers(apps, schema_editor):
    search.renew_triggers(schema_editor.connection)


class Migration(migrations.Migration):
    dependencies = [("catalog", "0017_one_name_of_each_host")]

    operations = [migrations.RunPython(renew_triggers, migrations.RunPython.noop)]
