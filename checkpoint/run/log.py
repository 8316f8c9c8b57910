"""Log: the lines that a run writes, kept with it. Who reads them: checkpoint/read/run/log.py."""

from collections.abc import Sequence

import msgspec

from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.owned import Owned

MOST_LINES = 2_000
MOST_BYTES = 256 * 1024
"""What is kept of a run's log: the newest."""
LONGEST_LINE = 2_000
"""How much of a line is kept, characters."""

_LOG = script(__file__, "run_log")


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of a run's log: when (server ms), by what, in which step (none: between steps), at which level."""

    at: int
    source: str = msgspec.field(name="from")
    text: str
    step: str = ""
    level: str = ""
    attempt: int = 1
    """Which attempt of the step, or of the code between steps, has written it."""


def tell_log(wire: Wire, owned: Owned, lines: Sequence[bytes], dropped: int) -> None:
    """Send lines (JSON), without waiting; `dropped` came between them and those before. A lost one costs nothing."""
    wire.tell_script(_LOG, owned.prefix, owned.run, MOST_LINES, MOST_BYTES, dropped, *lines)
