"""Whether a tag was made on purpose, so that it is listed while no screenshot has it, or is a word of screenshots.

Of tags from before that cannot be told: those that everybody sees at present go on to be listed, and those that only
galleries use which not everybody sees do not begin to be. No table is rebuilt on SQLite, which would lose its triggers.
"""

from django.db import migrations, models
from django.db.models import Exists, OuterRef


def keep_hidden_what_is(apps, schema_editor):
    tag, screenshot = apps.get_model("catalog", "Tag"), apps.get_model("catalog", "Screenshot")
    tagged = screenshot.tags.through.objects.filter(tag=OuterRef("pk"))
    listed = tagged.filter(screenshot__gallery__visibility="public")
    tag.objects.filter(Exists(tagged), ~Exists(listed)).update(offered=False)


class Migration(migrations.Migration):
    dependencies = [("catalog", "0013_largest_position")]

    operations = [
        migrations.RunSQL(
            "ALTER TABLE catalog_tag ADD COLUMN offered bool NOT NULL DEFAULT true",
            "ALTER TABLE catalog_tag DROP COLUMN offered",
            state_operations=[
                migrations.AddField(
                    model_name="tag",
                    name="offered",
                    field=models.BooleanField(
                        db_default=True,
                        default=True,
                        help_text="Listed while no screenshot has it. A word that came with one is not: "
                        "it may have been private.",
                    ),
                ),
            ],
        ),
        migrations.RunPython(keep_hidden_what_is, migrations.RunPython.noop),
    ]
