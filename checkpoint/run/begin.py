"""Begin: queue a run that no event starts: an invoke, a schedule's tick, an on_failure run, or a rerun.

Its id is derived from its cause, so a second queue entry for it is acknowledged unrun: repeating is harmless.
"""

import msgspec

from stepstream.bus.encryption import sealing
from stepstream.bus.event import RawEvent
from stepstream.bus.values import codec
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.pipeline import Argument
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.streams import Fields
from stepstream.bus.wire.wire import Wire


async def begin(
    wire: Wire,
    slug: str,
    run: str,
    source: str,
    event: RawEvent,
    *,
    parent: str = "",
    rerun_of: str = "",
    patience: float | None = None,
) -> None:
    """Add the entry that begins a run.

    `source` is what made it: `invoke`, `failure`, `cron`, `replay` or `rerun`; then `rerun_of` is the run that is run
    again. `parent` (`<slug>|<run>|<step>`) is the step that waits for its end.
    """
    fields: list[Argument] = ["run", run, "turn", 1, "why", source, "source", source]
    data = msgspec.Raw(sealing.sealed(bytes(event.data)))
    fields += ["event", codec.encode(msgspec.structs.replace(event, data=data)), "parent", parent]
    if rerun_of:
        fields += ["rerun_of", rerun_of]
    await patiently(lambda: wire.call("XADD", keys.queue(slug, run), "*", *fields), patience)


def begun_event(fields: Fields) -> bytes:
    """Return the event, as JSON, of an entry that begins a run; empty when the run has begun.

    A batch's entry holds its first event and, in `batch`, all of them.
    """
    event, batch = fields.get(b"event", b""), fields.get(b"batch")
    if batch is None:
        return event
    several = codec.decode_as(batch, list[RawEvent])
    return codec.encode(msgspec.structs.replace(codec.decode_as(event, RawEvent), batch=several))
