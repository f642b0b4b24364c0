"""A position is at most what PostgreSQL has room for, on SQLite too: a validator, and no table is rebuilt."""

import django.core.validators
from django.db import migrations, models

LARGEST = 2_147_483_647


def _bounded(model_name):
    validators = [django.core.validators.MaxValueValidator(LARGEST)]
    field = models.PositiveIntegerField(default=0, validators=validators)
    return migrations.AlterField(model_name=model_name, name="position", field=field)


class Migration(migrations.Migration):
    dependencies = [("catalog", "0012_indexes_of_relations")]

    operations = [
        migrations.SeparateDatabaseAndState(state_operations=[_bounded("gallery"), _bounded("screenshot")]),
    ]
