"""Begin: queue a run that no event stream brings: called by a step, by cron, by hand, for a failure, or again.

Its id is derived from its cause, so a second queue entry for it is acknowledged unrun: repeating is harmless.
"""

from bus import codec
from bus.event import RawEvent
from bus.wire import keys
from bus.wire.retry import patiently
from bus.wire.wire import Wire


async def begin(
    wire: Wire, slug: str, run: str, source: str, event: RawEvent, *, parent: str = "", patience: float | None = None
) -> None:
    """Add the entry that begins a run.

    `source` is what made it: `invoke`, `failure`, `cron`, `delayed` or `rerun <run>`. `parent`
    (`<slug>|<run>|<step>`) is the step that waits for its end.
    """
    fields = ["run", run, "turn", 1, "why", source, "source", source, "event", codec.encode(event), "parent", parent]
    await patiently(lambda: wire.call("XADD", keys.queue(slug), "*", *fields), patience)
