"""No index of a foreign key's own where another begins with it: of what tags a screenshot, and of its renditions.

No table is rebuilt on SQLite, which would lose its triggers.
"""

import django.db.models.deletion
from django.db import migrations, models

RELATIONS = ("screenshot", "tag"), ("screenshot",)


def _columns(apps):
    screenshot, rendition = apps.get_model("catalog", "Screenshot"), apps.get_model("catalog", "Rendition")
    for model, names in zip((screenshot.tags.through, rendition), RELATIONS, strict=True):
        for name in names:
            yield model, model._meta.get_field(name)


def drop_indexes(apps, schema_editor):
    for model, field in _columns(apps):
        for name in schema_editor._constraint_names(model, [field.column], index=True):
            schema_editor.execute(schema_editor._delete_index_sql(model, name))
        schema_editor.execute(f"ANALYZE {model._meta.db_table}")


def make_indexes(apps, schema_editor):
    for model, field in _columns(apps):
        schema_editor.execute(schema_editor._create_index_sql(model, fields=[field]))


class Migration(migrations.Migration):
    dependencies = [("catalog", "0011_a_tombstone_for_each")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunPython(drop_indexes, make_indexes)],
            state_operations=[
                migrations.AlterField(
                    model_name="rendition",
                    name="screenshot",
                    field=models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="renditions",
                        to="catalog.screenshot",
                    ),
                ),
            ],
        ),
    ]
