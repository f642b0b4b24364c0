"""Take the keys of tokens out of the admin's log, which named each token by its own."""

from django.db import migrations


def take_out(apps, schema_editor):
    entries = apps.get_model("admin", "LogEntry").objects.using(schema_editor.connection.alias)
    entries.filter(content_type__app_label="authtoken").update(object_repr="a token")


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0002_append_only"),
        ("admin", "0003_logentry_add_action_flag_choices"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [migrations.RunPython(take_out, migrations.RunPython.noop)]
