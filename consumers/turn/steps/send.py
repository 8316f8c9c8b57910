"""Send: publish events, or give a signal, from a run, once over crashes: their ids are derived from run and step."""

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from stepstream.bus.bus import outgoing
from stepstream.bus.errors import EventInvalid, NonRetriable
from stepstream.bus.event import NewEvent, Outgoing, Sendable, as_new
from stepstream.bus.process.failpoints import reached
from stepstream.bus.values import codec
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.publishing import Publisher
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.owned import Owned
from stepstream.checkpoint.waits.signals import send_signal
from stepstream.consumers.turn.turn import Turn


async def send_event(turn: Turn, step: str, events: Sequence[Sendable]) -> list[str]:
    """Return the ids of the events, once they are stored. All are checked before any is."""
    turn.awaited(step)
    memo = await turn.replayed(step, "send")
    if memo is None:
        with turn.activity:
            ids = await published(turn.services.publisher, turn.owned, step, events, turn.trace_of(step))
            data = codec.encode(ids)
            stands = await turn.recorder.save(step, "send", data=data)
        if turn.is_branched:
            await turn.in_order(stands.n if stands is not None else turn.state.known)
        if stands is None:
            return ids
        memo = stands
    return memo.value(step, list[str])


async def published(
    publisher: Publisher, owned: Owned, step: str, events: Sequence[Sendable], trace: str | None = None
) -> list[str]:
    """Publish events of a run's step, and return their ids; NonRetriable for one that cannot be sent.

    `trace` is the `traceparent` of the step.
    """
    if not events:
        raise NonRetriable(f"step '{step}': there is no event to send")
    checked: list[Outgoing] = []
    for position, event in enumerate(events):
        cause = f"{owned.slug}|{owned.run}|{step}|{position}"
        try:
            new = as_new(event)
            derived = new.id or hashlib.sha256(cause.encode()).hexdigest()[:32]
            sent = outgoing(NewEvent(new.event, new.data, derived, new.ts, new.v))
            checked.append(msgspec.structs.replace(sent, trace=trace))
        except EventInvalid as error:
            raise NonRetriable(f"step '{step}': {error.at(position) if len(events) > 1 else error}") from None
    try:
        await patiently(lambda: publisher.publish(checked))
    except EventInvalid as error:
        raise NonRetriable(f"step '{step}': {error}") from None
    reached("send.stored")
    return [event.id for event in checked]


async def signalled(wire: Wire, owned: Owned, step: str, signal: str, data: Any) -> bool:
    """Give a signal from a run's step, and return whether a run waited; NonRetriable for one that cannot be given."""
    try:
        return await send_signal(wire, signal, data, sender=f"{owned.run}|{step}") is not None
    except EventInvalid as error:
        raise NonRetriable(str(error)) from None
