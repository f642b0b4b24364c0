"""The index behind `search`: GIN over an expression on PostgreSQL, FTS5 kept by triggers on SQLite."""

from django.db import migrations

from catalog import search


def forwards(apps, schema_editor):
    search.create_index(schema_editor.connection)


def backwards(apps, schema_editor):
    search.drop_index(schema_editor.connection)


class Migration(migrations.Migration):
    dependencies = [("catalog", "0001_initial")]

    operations = [migrations.RunPython(forwards, backwards)]
