"""Names: what a waiting step holds outside its run's slot: a signal's name, a place among the waits for an event.

A name belongs to a step that is open, of a run that has not ended. Its slot cannot see the run's, so a holder is looked
at where it is in somebody's way: one that waits no more has lost its name.
"""

from collections.abc import Sequence

import msgspec

from bus.wire import keys
from bus.wire.bounds import parts
from bus.wire.outcomes import ENDED
from bus.wire.retry import patiently
from bus.wire.wire import Wire


class Holder(msgspec.Struct, frozen=True):
    """A step of a run that holds a name."""

    slug: str
    run: str
    step: str

    @property
    def word(self) -> str:
        """The holder as it is stored."""
        return f"{self.slug}|{self.run}|{self.step}"

    @classmethod
    def of(cls, word: str) -> "Holder":
        """Return a holder from how it is stored: slugs and runs hold no `|`."""
        slug, _, rest = word.partition("|")
        run, _, step = rest.partition("|")
        return cls(slug, run, step)


async def still_wait(wire: Wire, holders: Sequence[Holder]) -> list[bool]:
    """Return for each whether its step waits: open, in a run that has not ended. One that does not never will again."""
    found: list[bool] = []
    for part in parts(holders):
        commands = [
            command
            for one in part
            for command in (
                ("HGET", keys.run(one.slug, one.run), "status"),
                ("HEXISTS", keys.open_steps(one.slug, one.run), one.step),
            )
        ]
        rows = await patiently(lambda commands=commands: wire.loads(*commands))
        found += [
            status is not None and status.decode() not in ENDED and bool(is_open)
            for status, is_open in zip(rows[::2], rows[1::2], strict=True)
        ]
    return found
