"""Stepping: what is done in steps, by whichever process takes the next one, until it is over.

How far it has come is a field of a hash in Redis. A step is claimed by writing over the very state it was read in, so
that each is counted once; a process that dies is followed, when its claim is over, by another at the same place. So a
step must be harmless when it is repeated.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from stepstream.bus.values import codec
from stepstream.bus.values.ids import token
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.fields import put_if

CLAIM_MS = 30_000
"""How long a step may take until another process takes it over."""
KEPT_MS = 7 * 86_400_000
"""How long one that is over is kept."""
AT_MOST = 100
"""How many there may be that are not over."""

_PAUSE = 1.5
"""How long a pause follows a step, as a multiple of what that took: more than half of what others do meets no step."""
_LONGEST_PAUSE_S = 0.03


class Stepped(msgspec.Struct, frozen=True, kw_only=True):
    """What is done in steps, as it is stored. Times are server ms."""

    id: str
    created: int = 0
    claimed: int = 0
    """Until when the process that takes the next step may do so alone."""
    claimant: str = ""
    """A token of that process: two that claim in one millisecond would write the same, and both have it."""

    @property
    def over(self) -> int:
        """Since when nothing more is to be done; 0: there is."""
        raise NotImplementedError

    def closed_as(self, stands: Any) -> Any:
        """Return what becomes of it, a step further, when somebody has ended it meanwhile, as `stands` says."""
        return stands


S = TypeVar("S", bound=Stepped)


async def all_of(wire: Wire, key: str, kind: type[S]) -> list[S]:
    """Return those there are, newest first; those that were over long ago are removed."""
    found: list[S] = []
    for raw in await wire.load("HVALS", key, patience=2.0):
        one = codec.stored_as(raw, kind)
        if one is not None:
            found.append(one)
    old = await wire.moment() - KEPT_MS if found else 0
    for one in found:
        if one.over and one.over < old:
            await wire.call("HDEL", key, one.id)
    kept = [one for one in found if not one.over or one.over >= old]
    return sorted(kept, key=lambda one: (one.created, one.id), reverse=True)


async def carry_on(
    wire: Wire,
    key: str,
    id: str,
    kind: type[S],
    step: Callable[[Wire, S], Awaitable[S]],
    seconds: float,
    claim_ms: int = CLAIM_MS,
    least_s: Callable[[S, S], float] | None = None,
) -> bool:
    """Take steps for `seconds`, at least one; return whether there is more to do for us.

    How far a step has come is written with the claim of the next one, by one command. `least_s` tells how long a step
    takes at least, with the pause behind it: of what it was before and after it.
    """
    began = time.monotonic()
    raw = await wire.load("HGET", key, id)
    now = await wire.moment()
    at = codec.decode_as(raw, kind) if raw else None
    # A claim that ends later than any can was made before the server's clock was set back.
    if raw is None or at is None or at.over or now < at.claimed <= now + claim_ms:
        return False
    at = msgspec.structs.replace(at, claimed=now + claim_ms, claimant=token())
    if await write(wire, key, raw, at) is not None:
        return False  # another process was first
    while True:
        step_began = time.monotonic()
        stepped = await step(wire, at)
        took = time.monotonic() - began
        is_last = bool(stepped.over) or took >= seconds
        stepped = msgspec.structs.replace(stepped, claimed=0 if is_last else now + round(took * 1_000) + claim_ms)
        ended = await write(wire, key, codec.encode(at), stepped)
        if ended is not None:  # by somebody, unless another has taken over the step
            there = codec.decode_as(ended, kind)
            if there.over:
                await write(wire, key, ended, stepped.closed_as(there))
            return False
        if is_last:
            return not stepped.over
        before, at = at, stepped
        took = time.monotonic() - step_began
        least = 0.0 if least_s is None else least_s(before, at)
        await asyncio.sleep(max(min(took * _PAUSE, _LONGEST_PAUSE_S), least - took))


async def write(wire: Wire, key: str, stands_now: bytes, new: Stepped) -> bytes | None:
    """Put a new state in place of one that must still stand; return what stands instead, None when it is written."""
    stands = await put_if(wire, key, new.id, codec.encode(new), stands_now)
    return stands or None  # it may have been forgotten meanwhile: then there is nothing to go by
