"""Start requests: what start is asked for an entry in hand: which run it is for, and with what that begins."""

from stepstream.bus.event import RawEvent
from stepstream.bus.values import codec
from stepstream.bus.values.ids import entry_ms, run_id, token
from stepstream.bus.wire.leases import consumer_worker
from stepstream.checkpoint.run.begin import begun_event
from stepstream.checkpoint.run.start import StartRequest
from stepstream.checkpoint.waits import cancel_index
from stepstream.consumers.delivery.delivery import Delivery


def start_request(delivery: Delivery, event: RawEvent | None, worker: str, now: str) -> StartRequest:
    """Return what a worker asks; `event` is the entry's own, None for one of the queue.

    `now` is the time that a test has set (Wire.now), or empty: entries of a queue have the server's.
    ValueError for an entry that makes no sense.
    """
    owner = delivery.owner
    if owner and consumer_worker(owner) == worker:
        owner = ""  # our own earlier name did not crash: this process lives
    return _of_queue(delivery, owner, now) if event is None else _of_event(delivery, event, owner)


def _of_queue(delivery: Delivery, owner: str, now: str) -> StartRequest:
    fields, function, queued = delivery.fields, delivery.feed.function, int(now or entry_ms(delivery.id))
    run, begins, cancels = fields.get(b"run", b"").decode(), begun_event(fields), ""
    if begins and function.cancel_on:
        cancels = cancel_index.words(function, codec.decode_as(begins, RawEvent), run, queued)
    return StartRequest(
        run=run,
        turn=int(fields.get(b"turn", b"1")),
        entry=delivery.feed.entry_name(delivery.id),
        owner=owner,
        consumer=delivery.consumer,
        fence=token(),
        event=begins,
        source=fields.get(b"source", b"").decode(),
        queued=queued,
        parent=fields.get(b"parent", b"").decode(),
        cancels=cancels,
        rerun_of=fields.get(b"rerun_of", b"").decode(),
    )


def _of_event(delivery: Delivery, event: RawEvent, owner: str) -> StartRequest:
    function, queued = delivery.feed.function, entry_ms(delivery.id)
    run = run_id(function.slug, "event", delivery.feed.cause(delivery.id), queued)
    return StartRequest(
        run=run,
        turn=1,
        entry=delivery.feed.entry_name(delivery.id),
        owner=owner,
        consumer=delivery.consumer,
        fence=token(),
        event=codec.encode(event),
        source="event",
        queued=queued,
        not_before=event.ts if event.ts > queued else 0,
        cancels=cancel_index.words(function, event, run, queued),
    )
