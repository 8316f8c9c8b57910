"""What Django is told of the outbox."""

from django.apps import AppConfig


class OutboxConfig(AppConfig):
    """The outbox as a Django application: one table and one command."""

    name = "stepstream.producers.outbox.django"
    label = "stepstream_outbox"
    verbose_name = "Stepstream outbox"
    default_auto_field = "django.db.models.BigAutoField"
