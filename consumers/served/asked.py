"""Asked: what a call brings, read: the run, its events, the steps that have ended, and what is to be done."""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Raw

from stepstream.bus.errors import EventInvalid
from stepstream.bus.event import RawEvent
from stepstream.bus.values import codec
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.owned import Owned
from stepstream.checkpoint.run.poll import new_memos
from stepstream.consumers.remote.checkpointing import StaleCall
from stepstream.consumers.remote.memos import owned_by, shown_steps, stack_of
from stepstream.consumers.remote.protocol import NEXT
from stepstream.producers.strict import parse_as

OF_THE_BUS = "inngest/"
"""How the names of events begin that the bus makes itself, on the wire: what they hold is told there in other words."""
_PATIENCE_S = 5.0


class _Stack(msgspec.Struct, frozen=True):
    stack: Sequence[str] | None = None


class _About(msgspec.Struct, frozen=True):
    run_id: str
    qi_id: str = ""
    attempt: int = 0
    disable_immediate_execution: bool = False
    stack: _Stack = _Stack()
    use_api: bool = False


class _Body(msgspec.Struct, frozen=True):
    ctx: _About
    event: RawEvent
    events: Sequence[RawEvent] = ()
    steps: Mapping[str, Raw] = {}


class Asked(msgspec.Struct, frozen=True):
    """One call. `step` is the hash of the step to be run, or `step`: then what is next.

    `memos` are the steps that have ended, by their hashes, in the order in which they did. `may_run` is false when
    steps are only to be told of.
    """

    owned: Owned
    step: str
    attempt: int
    may_run: bool
    events: Sequence[RawEvent]
    memos: Mapping[str, Raw]


async def read_call(wire: Wire, slug: str, step: str, body: bytes) -> Asked:
    """Return what a call of a function asks; EventInvalid for what is none, StaleCall for one whose turn is over.

    The turn is looked up: its fence is a secret that the bus has told its worker alone, so nobody else can make up a
    run, its events or what its steps have returned. What is too large for a call is loaded.
    """
    read = parse_as(body, _Body)
    about = read.ctx
    owned = owned_by(about.run_id, about.qi_id)
    if owned.slug != slug:
        raise EventInvalid(f"is of a call of '{owned.slug[:150]}', not of '{slug}'", field="qi_id")
    key = keys.run(slug, owned.run)
    events = [*(read.events or [read.event])]
    is_stored = about.use_api or any(one.name.startswith(OF_THE_BUS) for one in events)
    stands = await patiently(
        lambda: wire.call("HMGET", key, "status", "fence", "turn", "event" if is_stored else "turn"), _PATIENCE_S
    )
    if stands[:3] != [b"running", owned.fence.encode(), str(owned.turn).encode()]:
        raise StaleCall(owned.run)
    if is_stored:
        events = codec.decode_as(stands[3], RawEvent).several()
    memos, stack = read.steps, about.stack.stack or ()
    if about.use_api:
        recorded = await new_memos(wire, owned, {})
        memos = codec.decode_as(codec.encode(shown_steps(recorded)), dict[str, Raw])
        stack = stack_of(recorded)
    ordered = [*(one for one in stack if one in memos), *(one for one in memos if one not in set(stack))]
    return Asked(
        owned=owned,
        step=step or NEXT,
        attempt=about.attempt,
        may_run=not about.disable_immediate_execution,
        events=events,
        memos={one: memos[one] for one in ordered},
    )
