"""`manage.py stepstream_relay`."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from stepstream.producers.outbox.django import flush, relay
from stepstream.producers.outbox.rows import AT_ONCE


class Command(BaseCommand):
    """Publishes what the outbox holds, until it is ended."""

    help = "Publish the events of committed transactions; runs until it is ended, and may run more than once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take --once and --database."""
        parser.add_argument("--once", action="store_true", help="Publish what is there, and end.")
        parser.add_argument("--database", default=None, help="The database of the outbox.")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Run it."""
        if not options["once"]:
            relay(options["database"]).run()
        while flush(options["database"]) == AT_ONCE:
            pass
