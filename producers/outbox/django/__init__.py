"""The outbox in a table of a Django project.

    INSTALLED_APPS = [..., "stepstream.producers.outbox.django"]   # then: manage.py migrate
    STEPSTREAM_APP = "shop.functions:app"

    from stepstream.producers.outbox.django import send

    with transaction.atomic():
        order.save()
        send(OrderPaid(order_id="o1"))

The relay: `manage.py stepstream_relay`, in a process of its own; or start(), in a thread of this one.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any

from stepstream.bus.bus import Bus, Delay
from stepstream.bus.errors import ConfigError
from stepstream.bus.event import Payload, Sendable
from stepstream.bus.loading import load
from stepstream.producers.outbox.rows import AT_ONCE, Relay, Row, published, row_of

_relay: Relay | None = None


@cache
def _app() -> Bus[Any]:
    from django.conf import settings

    app: object = getattr(settings, "STEPSTREAM_APP", None)
    if not isinstance(app, str):
        raise ConfigError(f"settings.STEPSTREAM_APP must be module:attribute, like shop.functions:app; it is {app!r}")
    return load(app)


def send(
    event: str | Sendable,
    data: Mapping[str, Any] | Payload | None = None,
    *,
    id: str | None = None,
    delay: Delay | None = None,
    at: datetime | None = None,
    using: str | None = None,
) -> str:
    """Publish an event when the transaction is committed, and not if it is not; return the event's id.

    It is checked now; EventInvalid. A `delay` counts from now. `using` is the database of the transaction.
    """
    from django.db import transaction

    from stepstream.producers.outbox.django.models import OutboxRow

    row = row_of(_app(), event, data, id, delay, at)
    OutboxRow.objects.using(using).create(
        event_id=row.id, name=row.name, data=row.data, ts=row.ts, due=row.due, v=row.v
    )
    transaction.on_commit(_wake, using=using)
    return row.id


def flush(using: str | None = None) -> int:
    """Publish up to 100 committed rows and delete them; return how many there were. Unavailable: Redis is away.

    Where the database can, rows that another relay is at are passed over (FOR UPDATE SKIP LOCKED); else both publish
    them, and they are stored once.
    """
    from django.db import DEFAULT_DB_ALIAS, connections, transaction

    from stepstream.producers.outbox.django.models import OutboxRow

    alias = using or DEFAULT_DB_ALIAS
    features = connections[alias].features
    stored = OutboxRow.objects.using(alias)
    with transaction.atomic(using=alias):
        wanted = stored.filter(error=None).order_by("n")
        if features.has_select_for_update:
            wanted = wanted.select_for_update(skip_locked=features.has_select_for_update_skip_locked)
        rows = [Row(one.event_id, one.name, one.data, one.ts, one.due, one.v, one.n) for one in wanted[:AT_ONCE]]
        if rows:
            app = _app()
            refused = app.sync(lambda: published(app, rows), "flush", "sync_to_async(flush)")
            stored.filter(n__in=[row.n for row in rows if row.n not in refused]).delete()
            for n, why in refused.items():
                stored.filter(n=n).update(error=why)
    return len(rows)


def relay(using: str | None = None) -> Relay:
    """Return a relay: run() it in this thread, or start() it in one of its own."""
    from django.db import close_old_connections

    def once() -> int:
        close_old_connections()
        return flush(using)

    return Relay(once)


def start(using: str | None = None) -> None:
    """Relay in a thread of this process, which its commits wake. Not before a fork: the child would have none."""
    global _relay
    _relay = relay(using)
    _relay.start()


def stop() -> None:
    """Stop the thread of start(), after the rows that are under way."""
    global _relay
    stopping, _relay = _relay, None
    if stopping is not None:
        stopping.stop()


def _wake() -> None:
    if _relay is not None:
        _relay.wake()
