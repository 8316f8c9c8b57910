"""Poll: has a value or a cancel come from outside for turns that are running?"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from stepstream.bus.values import codec
from stepstream.bus.wire import keys
from stepstream.bus.wire.bounds import parts
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.memo import Failure, Memo, memo_of
from stepstream.checkpoint.run.owned import Owned
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


async def new_memos(wire: Wire, owned: Owned, known: Mapping[str, Memo]) -> dict[str, Memo]:
    """Return the memos of a run that its turn does not know: recorded by itself, or for it by another process."""
    key = keys.steps(owned.slug, owned.run)
    if await patiently(lambda: wire.call("HLEN", key)) <= len(known):
        return {}
    names: list[bytes] = await patiently(lambda: wire.call("HKEYS", key))
    return await memos_named(wire, owned, [name for name in names if codec.text(name) not in known])


async def memos_named(wire: Wire, owned: Owned, names: Sequence[bytes]) -> dict[str, Memo]:
    """Return the memos of steps, by their names; of a step that has none there is none."""
    key = keys.steps(owned.slug, owned.run)
    new: dict[str, Memo] = {}
    for part in parts(names):
        found: list[bytes | None] = await patiently(lambda part=part: wire.load("HMGET", key, *part))
        new |= {codec.text(name): memo_of(raw) for name, raw in zip(part, found, strict=True) if raw is not None}
    return new
