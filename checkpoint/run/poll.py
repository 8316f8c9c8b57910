"""Poll: has a value or a cancel come from outside for turns that are running?"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from stepstream.bus.values import codec
from stepstream.bus.wire.bounds import parts
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.memo import Failure, Memo
from stepstream.checkpoint.run.save import memos_of


class _Item(NamedTuple):
    """A turn that is asked for: its run, and the highest `n` it knows."""

    run: str
    known: int


_POLL = script(__file__, "runs_poll", item=_Item)


class Seen(msgspec.Struct):
    """What a living turn must know: that it is cancelled, and why; the memos that were resolved since it asked last."""

    cancel: Failure | None
    resolved: dict[str, Memo]


async def poll(wire: Wire, prefix: tuple[str], turns: Sequence[tuple[str, int]]) -> list[Seen]:
    """Ask for turns whose runs lie together (Owned.prefix), each a run and the highest `n` it knows."""
    seen: list[Seen] = []
    for some in parts(turns, width=2):
        part = [argument for turn in some for argument in _Item(*turn)]
        replies = await wire.script(_POLL, prefix, *part)
        seen += [Seen(codec.decode_as(why, Failure) if why else None, memos_of(memos)) for why, memos in replies]
    return seen
