"""Fewer and cheaper indexes of screenshots, each of which every write of a row pays for.

No foreign key's own where five others begin with it, one unique index for two, only the states that are rare, and for
the search columns of words that are stored. No table is rebuilt on SQLite, which would lose its triggers.
"""

import django.db.models.deletion
from django.db import migrations, models

import catalog.indexes
from catalog import search, tallies


def drop_index_of_gallery(apps, schema_editor):
    model = apps.get_model("catalog", "Screenshot")
    for name in schema_editor._constraint_names(model, ["gallery_id"], index=True):
        schema_editor.execute(schema_editor._delete_index_sql(model, name))


def make_index_of_gallery(apps, schema_editor):
    model = apps.get_model("catalog", "Screenshot")
    schema_editor.execute(schema_editor._create_index_sql(model, fields=[model._meta.get_field("gallery")]))


def store_words(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        search.drop_index(schema_editor.connection)
        search.create_index(schema_editor.connection)


def make_moves_exclusive(apps, schema_editor):
    tallies.make_moves_exclusive(schema_editor.connection)
    tallies.replace_functions(schema_editor.connection)


def analyze(apps, schema_editor):
    """Count anew: SQLite takes an index that it has not counted for the best, PostgreSQL an expression for rare."""
    schema_editor.execute("ANALYZE catalog_screenshot")


class Migration(migrations.Migration):
    dependencies = [("catalog", "0009_tallies")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunPython(drop_index_of_gallery, make_index_of_gallery)],
            state_operations=[
                migrations.AlterField(
                    model_name="screenshot",
                    name="gallery",
                    field=models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="screenshots",
                        to="catalog.gallery",
                    ),
                ),
            ],
        ),
        migrations.RemoveIndex(model_name="screenshot", name="screenshot_by_state"),
        migrations.AddIndex(
            model_name="screenshot",
            index=catalog.indexes.SelectiveIndex(
                condition=models.Q(("state", "ready"), _negated=True),
                fields=["state", "-captured_at", "-id"],
                name="screenshot_by_state",
            ),
        ),
        migrations.RunPython(store_words, migrations.RunPython.noop),
        migrations.RunPython(make_moves_exclusive, migrations.RunPython.noop),
        migrations.RunPython(analyze, migrations.RunPython.noop),
    ]
