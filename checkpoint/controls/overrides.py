"""Overrides: a limit is set otherwise until a time, and taken back before.

Workers hear of it as of a pause, and hand its lines (`limits.py`) to the scripts that admit and dispatch, which compare
its end with the server's clock. So it is over by itself, to the millisecond, and while there is none nothing is read
for it.
"""

import shlex
from typing import NamedTuple

from stepstream.bus.errors import BadRequest, Conflict
from stepstream.bus.values import codec
from stepstream.bus.values.durations import LONGEST_MS
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.registering import Registered
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.controls.limits import Declared, declared_limits, overrides_of
from stepstream.checkpoint.controls.ordered import Controls, Override, controls, limit_field
from stepstream.checkpoint.controls.put import put_control, remove_control
from stepstream.checkpoint.fields import put_if
from stepstream.checkpoint.registry import function_of

_PATIENCE_S = 2.0
_MOST = 1_000_000


class LimitChanged(Conflict):
    """A limit was set by somebody else since the caller has looked."""

    code = "limit_changed"


async def override_limit(
    wire: Wire,
    slug: str,
    limit: str,
    to: int,
    until: int,
    by: str,
    *,
    key: str | None = None,
    seen: int | None = None,
    request: str = "",
) -> Override:
    """Set a limit of a function to another number until a moment (server ms), for each value of its key or for one.

    A limit that is shared is set for all functions that share it. `seen` is the latest `since` of an override that the
    caller has seen (0: none): LimitChanged when this one was set later; None: whatever stands is replaced. Repeated
    with the same `request` nothing changes. BadRequest for a limit that it has not or a number that makes no sense,
    FunctionNotFound.
    """
    found = _declared(await function_of(wire, slug), limit)
    if not found.least <= to <= _MOST:
        raise BadRequest(f"a {limit} may be set to a number from {found.least} to {_MOST:,}, got {to}")
    now = await patiently(wire.moment, _PATIENCE_S)
    if not now < until <= now + LONGEST_MS:
        raise BadRequest(f"until must be a moment to come, within 366 days; got {until} (Unix ms), and it is {now}")
    made = Override(found.limit, key, to, until, now, by, request)

    def ordered(stands: Override | None) -> Override:
        if stands is None or stands.until <= now:
            return made
        if request and stands.request == request:
            return stands
        if seen is not None and stands.since > seen:
            raise LimitChanged(
                f"the {limit} of function '{slug}' was set to {stands.to} by {stands.by} meanwhile: "
                "look again, then set it"
            )
        return made

    return await put_control(wire, found.field(slug, key), Override, ordered) or made


class Restored(NamedTuple):
    """Whether a limit was set otherwise, and what is still: for other values of its key, or for all."""

    was_set: bool
    stand: tuple[Override, ...]


async def restore_limit(wire: Wire, slug: str, limit: str, key: str | None = None) -> Restored:
    """Let a limit be what its function declares, before its time, for each value of its key or for one.

    What was set for one value stands when that for each is taken back, and the other way round.
    """
    function = await function_of(wire, slug)
    found = _declared(function, limit)
    before = await remove_control(wire, found.field(slug, key), Override)
    ordered, now = await controls(wire), await patiently(wire.moment, _PATIENCE_S)
    stand = tuple(one for one in overrides_of(ordered, slug, function.limits, now) if one.limit == limit)
    return Restored(before is not None and before.until > now, stand)


def restoring(slug: str, one: Override) -> str:
    """Return the line of `bus` that takes an override back."""
    return f"bus limits restore {slug} {one.limit}" + ("" if one.key is None else f" --key {shlex.quote(one.key)}")


async def forget_over(wire: Wire, ordered: Controls, now: int) -> None:
    """Remove the overrides whose time is over; nobody else's that were set meanwhile."""
    for owner, several in ordered.limits.items():
        for one in several:
            if one.until <= now:
                field = limit_field(owner, one.limit, one.key)
                await put_if(wire, keys.controls(), field, b"", codec.encode(one))


def _declared(function: Registered, limit: str) -> Declared:
    known = declared_limits(function.limits)
    for one in known:
        if one.limit == limit:
            return one
    there = ", ".join(one.limit for one in known) or "none: declare one, for example concurrency=2"
    raise BadRequest(f"function '{function.slug}' has no limit {limit[:40]!r} that can be set; it has {there}")
