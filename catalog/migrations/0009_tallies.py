"""Tallies of tags by gallery, kept by triggers, so that a tag's count reads no screenshots: see `catalog.tallies`."""

from django.db import migrations

from catalog import tallies


def forwards(apps, schema_editor):
    tallies.create(schema_editor.connection)


def backwards(apps, schema_editor):
    tallies.drop(schema_editor.connection)


class Migration(migrations.Migration):
    dependencies = [("catalog", "0008_tombstones")]

    operations = [migrations.RunPython(forwards, backwards)]
