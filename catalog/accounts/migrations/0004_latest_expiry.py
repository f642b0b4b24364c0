"""A key expires by the end of the year 9999, if at all: a validator, and no change of the table."""

import datetime

import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0003_unnamed_tokens'),
    ]

    operations = [
        migrations.AlterField(
            model_name='apikey',
            name='expires_at',
            field=models.DateTimeField(blank=True, help_text='Empty: never.', null=True, validators=[django.core.validators.MaxValueValidator(datetime.datetime(9999, 12, 31, 0, 0, tzinfo=datetime.timezone.utc), 'Give a moment until 9999-12-31T00:00Z, or none.')]),
        ),
    ]
