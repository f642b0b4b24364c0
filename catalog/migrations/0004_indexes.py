"""One index for each order of a gallery's screenshots and one of a tag's; none of hashes, which no query reads."""

from django.db import migrations, models


def analyze(apps, schema_editor):
    """Tell SQLite of the new indexes: next to others that it has counted, it takes one uncounted for the best."""
    if schema_editor.connection.vendor == "sqlite":
        schema_editor.execute("ANALYZE")


class Migration(migrations.Migration):
    dependencies = [("catalog", "0003_track_changes")]

    operations = [
        migrations.AddIndex(
            model_name="screenshot",
            index=models.Index(
                fields=["gallery", "-created_at", "-id"], name="screenshot_by_gallery_creation"
            ),
        ),
        migrations.AddIndex(
            model_name="screenshot",
            index=models.Index(fields=["gallery", "-updated_at", "-id"], name="screenshot_by_gallery_update"),
        ),
        migrations.AddIndex(
            model_name="screenshot",
            index=models.Index(fields=["gallery", "title", "id"], name="screenshot_by_gallery_title"),
        ),
        migrations.RemoveIndex(model_name="screenshot", name="screenshot_by_sha256"),
        migrations.RunSQL(
            "CREATE INDEX screenshot_tags_by_tag ON catalog_screenshot_tags (tag_id, screenshot_id)",
            "DROP INDEX screenshot_tags_by_tag",
        ),
        migrations.RunPython(analyze, migrations.RunPython.noop),
    ]
