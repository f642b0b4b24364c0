"""Each host has one `domain`, whichever way its pages' addresses spell it; going back leaves them so."""

from django.db import migrations

from catalog.models import canonical_host


def spell_alike(apps, schema_editor):
    shots = apps.get_model("catalog", "Screenshot").objects.using(schema_editor.connection.alias)
    for domain in list(shots.order_by().values_list("domain", flat=True).distinct()):
        if canonical_host(domain) != domain:
            shots.filter(domain=domain).update(domain=canonical_host(domain))


class Migration(migrations.Migration):
    dependencies = [("catalog", "0016_longest_description")]

    operations = [migrations.RunPython(spell_alike, migrations.RunPython.noop)]
