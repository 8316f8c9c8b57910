"""Log: what a run has written, as people see it. Reads only."""

import msgspec

from stepstream.bus.values import codec
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.log import Line


class RunLog(msgspec.Struct, frozen=True):
    """The newest lines of a run's log, oldest first; `dropped` is how many came before them."""

    lines: list[Line]
    dropped: int = 0


async def log_of(wire: Wire, slug: str, run: str, most: int | None = None) -> RunLog:
    """Return what is kept of a run's log, or its last `most` lines."""
    first = 0 if most is None else -most
    rows, logged = await wire.loads(("LRANGE", keys.log(slug, run), first, -1), ("HGET", keys.run(slug, run), "logged"))
    lines = [_line(row) for row in rows]
    return RunLog(lines, max(0, codec.whole(logged or b"0") - len(lines)))


def _line(raw: bytes) -> Line:
    """Return a line; one that somebody wrote by hand is shown as it is."""
    try:
        return codec.decode_as(raw, Line)
    except msgspec.MsgspecError:
        return Line(0, "log", codec.text(raw))
