"""Signals: a value for the one step that waits for a name. A signal that nobody waits for is not kept."""

import hashlib
from typing import Any, cast

import msgspec

from stepstream.bus.errors import EventInvalid
from stepstream.bus.event import as_json
from stepstream.bus.values import codec
from stepstream.bus.values.fitting import misfit
from stepstream.bus.values.ids import token
from stepstream.bus.wire import keys
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.memo import WaitsFor, memo_of, open_of
from stepstream.checkpoint.run.resolve import hurry, resolve
from stepstream.checkpoint.waits.names import Holder, still_wait

_TAKE = script(__file__, "signal_take")
_GIVE = script(__file__, "signal_give")

MAX_NAME = 256
HEARD_MS = 3_600_000
"""How long a name keeps the note that a step's signal was received, for a retry of that step."""


def check_signal(name: str) -> None:
    """Refuse a signal's name that is empty, too long or not printable."""
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise EventInvalid(f"must be 1 to {MAX_NAME} printable characters, got {name[:40]!r}", field="signal")


async def take_signal(wire: Wire, name: str, waiter: Holder, for_ms: int, *, replaces: bool = False) -> Holder | None:
    """Take a name for a step; return the step that already waits for it, None when the name is ours.

    With `replaces` the name is taken from whoever has it, who goes on to the end of its wait without it; that is noted,
    for `bus check` would take it for a fault.

    A holder that no longer waits loses the name, if it is still the same holder: one that waits again has another
    fence. A step whose first reply was lost finds that it has the name.
    """
    gone, lost = "", list[str]()
    while True:
        word = await wire.lasting_script(_TAKE, [keys.signal(name), *lost], waiter.word, max(1, for_ms), gone)
        if not word:
            return None
        holder = Holder.of(codec.text(word))
        is_others = not is_heard(word) and not holder.is_step_of(waiter)
        waits = is_others and (await still_wait(wire, [holder]))[0]
        if waits and not replaces:
            return holder
        gone, lost = codec.text(word), [_lost(name, holder)] if waits else []


async def has_signal(wire: Wire, name: str, waiter: Holder) -> bool:
    """Whether a step that waits has its signal's name, or waits on without it since another took it over."""
    word, lost = await wire.loads(("GET", keys.signal(name)), ("EXISTS", _lost(name, waiter)))
    return bool(lost) or (word is not None and Holder.of(codec.text(word)).is_step_of(waiter))


def _lost(name: str, waiter: Holder) -> str:
    return keys.signal_lost(name, f"{waiter.slug}|{waiter.run}|{waiter.step}")


async def give_signal(wire: Wire, name: str, waiter: Holder) -> None:
    """Give a name up if the step still holds it, whichever of its turns took it."""
    word = cast("bytes | None", await wire.load("GET", keys.signal(name)))
    if word is not None and Holder.of(codec.text(word)).is_step_of(waiter):
        await wire.lasting_script(_GIVE, [keys.signal(name)], word)


async def send_signal(wire: Wire, name: str, data: Any, *, sender: str = "") -> str | None:
    """Give data to the run that waits for a signal; return that run's id, None when none waits.

    A `sender` (a step of a run) that is retried, because its worker died before it knew, gets the same answer.
    EventInvalid for data that is not of the type that the run waits for, as far as its schema tells: it waits on.
    """
    check_signal(name)
    encoded, mark = as_json(data), _mark(sender) if sender else token()
    while word := cast("bytes | None", await wire.load("GET", keys.signal(name))):
        if is_heard(word):
            _, run, by = codec.text(word).split("|")
            return run if by == mark else None
        waiter = Holder.of(codec.text(word))
        await _refuse_misfit(wire, name, waiter, encoded)
        answer = await resolve(wire, waiter.slug, waiter.run, waiter.step, "signal", encoded, mark=mark)
        # `there` and `gone`: it was resolved before, by us (the reply was lost, or the worker died) or by another.
        is_ours = answer not in ("gone", "there") or await _is_ours(wire, waiter, mark)
        leaves = (f"|{waiter.run}|{mark}", HEARD_MS) if is_ours and sender else ()
        await wire.lasting_script(_GIVE, [keys.signal(name)], word, *leaves)
        if is_ours:
            return waiter.run
    return None


async def _refuse_misfit(wire: Wire, name: str, waiter: Holder, data: bytes) -> None:
    """Raise EventInvalid for data that a step does not take; and let its run say anew what it takes.

    For the type may be another one since a deploy, of which a run that waits knows nothing until its code runs again.
    """
    noted = await wire.load("HGET", keys.open_steps(waiter.slug, waiter.run), waiter.step)
    if noted is None or data == b"null":
        return
    try:
        takes = codec.decode_as(open_of(noted).what, WaitsFor).takes
    except msgspec.DecodeError:  # written by hand: the step checks it
        return
    wrong = misfit(bytes(takes), codec.decode(data)) if bytes(takes) != b"null" else None
    if wrong is not None:
        await hurry(wire, waiter.slug, waiter.run)
        told = f"{wrong.reason}; run {waiter.run} waits for signal '{name}' with another type"
        raise EventInvalid(told, field=wrong.field)


def is_heard(word: bytes) -> bool:
    """Whether a name has no holder, only the note that a signal was received: `|<run>|<mark of the sender>`."""
    return word.startswith(b"|")


def _mark(sender: str) -> str:
    return hashlib.sha1(sender.encode(), usedforsecurity=False).hexdigest()[:20]


async def _is_ours(wire: Wire, waiter: Holder, mark: str) -> bool:
    memo = await wire.load("HGET", keys.steps(waiter.slug, waiter.run), waiter.step)
    return memo is not None and memo_of(memo).mark == mark
