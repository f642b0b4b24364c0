"""A description has an end: a validator, and no table is rebuilt."""

import django.core.validators
from django.db import migrations, models

LONGEST = 5_000


class Migration(migrations.Migration):
    dependencies = [("catalog", "0015_looked_up")]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField(
                    model_name="gallery",
                    name="description",
                    field=models.TextField(
                        blank=True, validators=[django.core.validators.MaxLengthValidator(LONGEST)]
                    ),
                )
            ]
        ),
    ]
