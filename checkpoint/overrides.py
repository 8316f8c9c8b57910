"""Overrides: limits that people have set otherwise until a time: who may, what workers and scripts are told of them.

An override is one of the controls (checkpoint/controls.py): workers hear of it as of a pause, and hand its lines to the
scripts that admit and dispatch, which compare its end with the server's clock. So it is over by itself, to the
millisecond, and while there is none nothing is read for it.
"""

import shlex
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from stepstream.bus.errors import BadRequest, Conflict
from stepstream.bus.function import Function
from stepstream.bus.limits.flow import Flow
from stepstream.bus.limits.keys import keys_like
from stepstream.bus.limits.told import LimitTold
from stepstream.bus.values import codec
from stepstream.bus.values.durations import LONGEST_MS
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.registering import Registered
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.controls import Controls, LimitName, Override, controls, limit_field, tell
from stepstream.checkpoint.registry import REGISTER, function_of

_PATIENCE_S = 2.0
_MOST = 1_000_000
_CONCURRENCY: tuple[LimitName, ...] = ("concurrency", "concurrency2")


class LimitChanged(Conflict):
    """A limit was set by somebody else since the caller has looked."""

    code = "limit_changed"


class Declared(NamedTuple):
    """A limit of a function that can be set otherwise: what it is called, its number, and the name it is shared by."""

    limit: LimitName
    number: int
    shared: str = ""


def declared_limits(limits: Sequence[LimitTold]) -> list[Declared]:
    """Return the limits that can be set otherwise, of those that a function declares."""
    concurrency = [one for one in limits if one.kind == "concurrency"]
    found = [Declared(name, one.number or 0, one.shared) for name, one in zip(_CONCURRENCY, concurrency, strict=False)]
    return found + [Declared(one.kind, one.number or 0) for one in limits if one.kind in ("throttle", "rate_limit")]


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
    least = 0 if found.limit in _CONCURRENCY else 1
    if not least <= to <= _MOST:
        raise BadRequest(f"a {limit} may be set to a number from {least} to {_MOST:,}, got {to}")
    now = await patiently(wire.moment, _PATIENCE_S)
    if not now < until <= now + LONGEST_MS:
        raise BadRequest(f"until must be a moment to come, within 366 days; got {until} (Unix ms), and it is {now}")
    made = Override(found.limit, key, to, until, now, by, request)
    field = _field(slug, found, key)
    raw: bytes = await wire.load("HGET", keys.controls(), field, patience=_PATIENCE_S) or b""
    while True:
        stands = _in_force(raw, now)
        if stands is not None and request and stands.request == request:
            made = stands
            break
        if seen is not None and stands is not None and stands.since > seen:
            raise LimitChanged(
                f"the {limit} of function '{slug}' was set to {stands.to} by {stands.by} meanwhile: "
                "look again, then set it"
            )
        raw = await wire.lasting_script(REGISTER, [keys.controls()], field, codec.encode(made), raw)
        if not raw:
            break
    await tell(wire, field)
    return made


class Restored(NamedTuple):
    """Whether a limit was set otherwise, and what is still: for other values of its key, or for all."""

    was_set: bool
    stand: tuple[Override, ...]


async def restore_limit(wire: Wire, slug: str, limit: str, key: str | None = None) -> Restored:
    """Let a limit be what its function declares, before its time, for each value of its key or for one.

    What was set for one value stands when that for each is taken back, and the other way round.
    """
    function = await function_of(wire, slug)
    field = _field(slug, _declared(function, limit), key)
    raw = await wire.load("HGET", keys.controls(), field, patience=_PATIENCE_S)
    gone = await patiently(lambda: wire.call("HDEL", keys.controls(), field), _PATIENCE_S)
    await tell(wire, field)  # also when there was none: the one who took it back may have died before this
    ordered, now = await controls(wire), await patiently(wire.moment, _PATIENCE_S)
    stand = tuple(one for one in overrides_of(ordered, slug, function.limits, now) if one.limit == limit)
    return Restored(bool(gone) and _in_force(raw or b"", now) is not None, stand)


def restoring(slug: str, one: Override) -> str:
    """Return the line of `bus` that takes an override back."""
    return f"bus limits restore {slug} {one.limit}" + ("" if one.key is None else f" --key {shlex.quote(one.key)}")


async def forget_over(wire: Wire, ordered: Controls, now: int) -> None:
    """Remove the overrides whose time is over; nobody else's that were set meanwhile."""
    for owner, several in ordered.limits.items():
        for one in several:
            if one.until <= now:
                field = limit_field(owner, one.limit, one.key)
                await wire.lasting_script(REGISTER, [keys.controls()], field, b"", codec.encode(one))


def overrides_of(ordered: Controls, slug: str, limits: Sequence[LimitTold], now: int) -> list[Override]:
    """Return what is set otherwise of the limits of a function now, those that it shares too."""
    found: list[Override] = []
    for declared in declared_limits(limits):
        for one in ordered.limits.get(_owner(slug, declared.shared), ()):
            if one.until > now and one.limit == _stored(declared):
                found += [msgspec.structs.replace(one, limit=declared.limit)]
    return found


def lines_of(ordered: Controls, function: Function) -> str:
    """Return what is set otherwise of the limits of a function, as scripts take it (fragments/overrides.lua)."""
    flow, slug = function.flow, function.slug
    found: list[str] = []
    for n, rule in enumerate(flow.concurrency):
        declared = Declared(_CONCURRENCY[n], rule.limit, rule.shared or "")
        for one in ordered.limits.get(_owner(slug, declared.shared), ()):
            if one.limit == _stored(declared):
                found += _lines(f"c{n}", one, one.to, 0)
    for one in ordered.limits.get(slug, ()):
        rule = flow.throttle if one.limit == "throttle" else flow.rate_limit if one.limit == "rate_limit" else None
        if rule is not None:
            set_to = msgspec.structs.replace(rule, limit=one.to)
            found += _lines("t" if one.limit == "throttle" else "r", one, set_to.gap_ms, set_to.more)
    return "\n".join(sorted(found))


def limit_of(limits: Sequence[LimitTold], limit_key: str) -> LimitName | None:
    """Return what the limit of a key is called by who sets it otherwise; None when it is declared no more."""
    names: dict[str, LimitName] = {"c0": "concurrency", "c1": "concurrency2", "t": "throttle", "r": "rate_limit"}
    found = names.get(limit_key.partition(":")[0])
    return found if any(one.limit == found for one in declared_limits(limits)) else None


def override_of(limits: Sequence[LimitTold], limit_key: str, others: Sequence[Override]) -> Override | None:
    """Return to what the limit of a key is set: that of this very value goes before that of all values."""
    found, key = limit_of(limits, limit_key), limit_key.partition(":")[2]
    mine = [one for one in others if one.limit == found and (one.key is None or key in keys_like(one.key))]
    return max(mine, key=lambda one: one.key is not None, default=None)


def line_ends(lines: str) -> list[int]:
    """Return when each of the lines is over, server ms."""
    return [int(line.split(" ")[1]) for line in lines.split("\n") if line]


def is_limited(flow: Flow) -> bool:
    """Whether a function has a limit that can be set otherwise."""
    return bool(flow.concurrency or flow.throttle or flow.rate_limit)


def _lines(prefix: str, one: Override, first: float, second: int) -> list[str]:
    names = [prefix] if one.key is None else [f"{prefix}:{stored}" for stored in keys_like(one.key)]
    return [f"{name} {one.until} {first} {second}" for name in names]


def _declared(function: Registered, limit: str) -> Declared:
    known = declared_limits(function.limits)
    for one in known:
        if one.limit == limit:
            return one
    there = ", ".join(one.limit for one in known) or "none: declare one, for example concurrency=2"
    raise BadRequest(f"function '{function.slug}' has no limit {limit[:40]!r} that can be set; it has {there}")


def _field(slug: str, found: Declared, key: str | None) -> str:
    return limit_field(_owner(slug, found.shared), _stored(found), key)


def _owner(slug: str, shared: str) -> str:
    return f"*{shared}" if shared else slug


def _stored(declared: Declared) -> LimitName:
    """Return what an override of it is called: a limit that is shared may be the first of one function only."""
    return "concurrency" if declared.shared else declared.limit


def _in_force(raw: bytes, now: int) -> Override | None:
    try:
        found = codec.decode_as(raw or b"null", Override | None)
    except ValueError:  # written by hand
        return None
    return found if found is not None and found.until > now else None
