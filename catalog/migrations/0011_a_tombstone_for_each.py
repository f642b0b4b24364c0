"""A tombstone for each that was deleted, where the last of a name had taken the place of those before.

Its triggers are away meanwhile: SQLite makes the table anew.
"""

from django.db import migrations, models

from catalog import tombstones


def drop_triggers(apps, schema_editor):
    tombstones.drop_triggers(schema_editor.connection)


def make_triggers(apps, schema_editor):
    tombstones.make_triggers(schema_editor.connection)


def forget_all_but_the_last(apps, schema_editor):
    rows = apps.get_model("catalog", "Tombstone").objects
    last = rows.values("kind", "name").annotate(last=models.Max("pk")).values("last")
    rows.exclude(pk__in=list(last.values_list("last", flat=True))).delete()


class Migration(migrations.Migration):
    dependencies = [("catalog", "0010_fewer_indexes")]

    operations = [
        migrations.RunPython(drop_triggers, make_triggers),
        migrations.RemoveConstraint(model_name="tombstone", name="tombstone_once"),
        migrations.RunPython(migrations.RunPython.noop, forget_all_but_the_last),
        migrations.AddIndex(
            model_name="tombstone", index=models.Index(fields=["kind", "name"], name="tombstone_by_name")
        ),
        migrations.RunPython(make_triggers, drop_triggers),
    ]
