"""The table of the outbox."""

from typing import ClassVar

from django.db import models


class OutboxRow(models.Model):
    """An event of a committed transaction that has not been published yet; `error`: why it never will be."""

    n: "models.BigAutoField[int, int]" = models.BigAutoField(primary_key=True)
    event_id: "models.CharField[str, str]" = models.CharField(max_length=256)
    name: "models.CharField[str, str]" = models.CharField(max_length=512)
    data: "models.TextField[str, str]" = models.TextField()
    ts: "models.BigIntegerField[int, int]" = models.BigIntegerField()
    due: "models.BigIntegerField[int, int]" = models.BigIntegerField()
    v: "models.CharField[str | None, str | None]" = models.CharField(max_length=128, null=True)
    error: "models.TextField[str | None, str | None]" = models.TextField(null=True)

    objects: ClassVar[models.Manager["OutboxRow"]] = models.Manager()

    class Meta:
        """Its name in the database."""

        db_table = "stepstream_outbox"

    def __str__(self) -> str:
        return f"{self.name} {self.event_id}"
