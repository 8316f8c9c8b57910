"""Names: what a waiting step occupies outside its run's slot: a signal's name, an entry among the waits for an event.

A name belongs to an open step of a run that has not ended. Its slot cannot see the run's slot, so whoever finds a name
taken looks at its holder: one that no longer waits has lost the name.
"""

from collections.abc import Sequence

import msgspec

from stepstream.bus.wire import keys
from stepstream.bus.wire.bounds import parts
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.record import ENDED


class Holder(msgspec.Struct, frozen=True):
    """The step that holds a name, and the fence of the delivery that took it."""

    slug: str
    run: str
    step: str
    fence: str = ""

    @property
    def word(self) -> str:
        """The text the holder is stored as."""
        return f"{self.slug}|{self.run}|{self.fence}|{self.step}"

    @classmethod
    def of(cls, word: str) -> "Holder":
        """Parse a stored holder: only the step's id may contain a `|`."""
        slug, run, fence, step = [*word.split("|", 3), "", "", ""][:4]
        return cls(slug, run, step, fence)

    def is_step_of(self, other: "Holder") -> bool:
        """Whether both are the same step of the same run, whatever their fences."""
        return (self.slug, self.run, self.step) == (other.slug, other.run, other.step)


async def still_wait(wire: Wire, holders: Sequence[Holder]) -> list[bool]:
    """Return for each holder whether its step still waits: open, not given up, in a run that has not ended."""
    found: list[bool] = []
    for part in parts(holders):
        commands = [
            command
            for one in part
            for command in (
                ("HMGET", keys.run(one.slug, one.run), "status", f"given_up:{one.step}"),
                ("HEXISTS", keys.open_steps(one.slug, one.run), one.step),
            )
        ]
        rows = await patiently(lambda commands=commands: wire.loads(*commands))
        found += [
            status is not None and status.decode() not in ENDED and given_up is None and bool(is_open)
            for (status, given_up), is_open in zip(rows[::2], rows[1::2], strict=True)
        ]
    return found
