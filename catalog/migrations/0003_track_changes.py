"""The database records what each change makes stale, whoever makes it: see `catalog.freshness`."""

from django.db import migrations

from keybits.operations import TrackChanges


class Migration(migrations.Migration):
    dependencies = [("catalog", "0002_search"), ("keybits", "0001_changes")]

    operations = [
        TrackChanges("Gallery"),
        TrackChanges("Tag"),
        TrackChanges("Screenshot"),
        TrackChanges("Rendition"),
        TrackChanges("Screenshot_tags"),
    ]
