"""Asked: what a call asks, read: which turn of which run it is of, and what is to be done. How the run stands is
looked up."""

import asyncio
from collections.abc import Sequence

import msgspec

from stepstream.bus.errors import EventInvalid
from stepstream.bus.event import RawEvent
from stepstream.bus.values import codec
from stepstream.bus.values.clock import now_ms
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.read.run.bringing import event_brought, memos_brought
from stepstream.checkpoint.run.memo import open_of
from stepstream.checkpoint.run.owned import Owned
from stepstream.checkpoint.run.poll import memos_named
from stepstream.checkpoint.run.start import StartReply
from stepstream.consumers.remote.checkpointing import StaleCall
from stepstream.consumers.remote.memos import owned_by
from stepstream.consumers.remote.protocol import NEXT
from stepstream.producers.strict import parse_as

_PATIENCE_S = 5.0


class _About(msgspec.Struct, frozen=True):
    run_id: str
    qi_id: str = ""
    step_id: str = ""
    attempt: int = 0
    disable_immediate_execution: bool = False


class _Body(msgspec.Struct, frozen=True):
    ctx: _About


class Asked(msgspec.Struct, frozen=True):
    """One call, and how its run stands. `step` is the hash of the step to be run, or `step`: then what is next.

    `may_run` is false when steps are only to be told of.
    """

    owned: Owned
    step: str
    may_run: bool
    events: Sequence[RawEvent]
    stands: StartReply


async def read_call(wire: Wire, slug: str, step: str, body: bytes) -> Asked:
    """Return what a call of a function asks; EventInvalid for what is not a call, StaleCall when its turn is over.

    The turn is looked up: its fence is a secret that the bus has told its worker alone, so nobody else can make up a
    run, its events or what its steps have returned. Those are read with it, whatever the call says of them.
    """
    about = parse_as(body, _Body).ctx
    owned = owned_by(about.run_id, about.qi_id)
    if owned.slug != slug:
        raise EventInvalid(f"is of a call of '{owned.slug[:150]}', not of '{slug}'", field="qi_id")
    if about.step_id and about.step_id != (step or NEXT):  # a signature is of the body, and not of the URL
        raise EventInvalid(f"is {about.step_id[:50]!r}, and the URL has stepId={step[:50]!r}", field="ctx.step_id")
    of_run, of_open = keys.run(slug, owned.run), keys.open_steps(slug, owned.run)
    run, noted, names = await patiently(
        lambda: asyncio.gather(
            wire.call("HMGET", of_run, "status", "fence", "turn", "event"),
            wire.call("HGETALL", of_open),
            wire.call("HKEYS", keys.steps(slug, owned.run)),
        ),
        _PATIENCE_S,
    )
    if run[:3] != [b"running", owned.fence.encode(), str(owned.turn).encode()]:
        raise StaleCall(owned.run)
    memos = await memos_named(wire, owned, names)
    opened = {codec.text(noted[i]): open_of(noted[i + 1]) for i in range(0, len(noted), 2)}
    return Asked(
        owned=owned,
        step=step or NEXT,
        may_run=not about.disable_immediate_execution,
        events=(await event_brought(wire, codec.decode_as(run[3], RawEvent))).several(),
        stands=StartReply(
            "go",
            turn=owned.turn,
            now=now_ms(),
            attempt=about.attempt,
            memos=await memos_brought(wire, memos),
            open={name: one for name, one in opened.items() if name not in memos},
            resumed=True,
        ),
    )
