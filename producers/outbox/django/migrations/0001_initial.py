"""The table of the outbox."""

from collections.abc import Sequence
from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """Make it."""

    initial = True
    dependencies: ClassVar[Sequence[tuple[str, str]]] = []
    operations: ClassVar[Sequence[migrations.operations.base.Operation]] = [
        migrations.CreateModel(
            name="OutboxRow",
            fields=[
                ("n", models.BigAutoField(primary_key=True, serialize=False)),
                ("event_id", models.CharField(max_length=256)),
                ("name", models.CharField(max_length=512)),
                ("data", models.TextField()),
                ("ts", models.BigIntegerField()),
                ("due", models.BigIntegerField()),
                ("v", models.CharField(max_length=128, null=True)),
                ("error", models.TextField(null=True)),
            ],
            options={"db_table": "stepstream_outbox"},
        ),
    ]
