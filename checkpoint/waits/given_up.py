"""Give up the names of steps that no longer wait, because their run has ended or their task was cancelled."""

from collections.abc import Mapping

from stepstream.bus.values import codec
from stepstream.bus.values.matching import value_at
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.memo import Open, WaitsFor
from stepstream.checkpoint.run.own_event import event_json
from stepstream.checkpoint.waits.event_waits import Wait, disarm
from stepstream.checkpoint.waits.names import Holder
from stepstream.checkpoint.waits.signals import give_signal


async def give_up(wire: Wire, slug: str, run: str, opened: Mapping[str, Open]) -> None:
    """Give up the names held by a run's open steps, which will never wait again."""
    own = None
    for step, noted in opened.items():
        what = codec.decode_as(noted.what, WaitsFor | None)
        if what is None:
            continue
        if what.signal:
            await give_signal(wire, what.signal, Holder(slug, run, step))
        elif what.event:
            own = own or await event_json(wire, slug, run)
            value = value_at(what.match, own) if what.match else b""
            wait = Wait(what.event, slug, run, step, noted.due or 0, what.match, value or b"", what.if_)
            await disarm(wire, what.event, [wait])
