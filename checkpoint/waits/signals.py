"""Signals: a value for the one run that waits for a name. Sent to nobody, it is not kept."""

import hashlib
from typing import Any, cast

from stepstream.bus.errors import EventInvalid
from stepstream.bus.event import as_json
from stepstream.bus.values import codec
from stepstream.bus.values.ids import token
from stepstream.bus.wire import keys
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.memo import memo_of
from stepstream.checkpoint.run.resolve import resolve
from stepstream.checkpoint.waits.names import Holder, still_wait

_TAKE = script(__file__, "signal_take")
_GIVE = script(__file__, "signal_give")

MAX_NAME = 256
HEARD_MS = 3_600_000
"""How long a name tells the step that sent a signal that it was heard; nobody needs to wait for that."""


def check_signal(name: str) -> None:
    """Refuse a signal's name that is empty, too long or not printable."""
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise EventInvalid(f"must be 1 to {MAX_NAME} printable characters, got {name[:40]!r}", field="signal")


async def take_signal(wire: Wire, name: str, waiter: Holder, for_ms: int) -> Holder | None:
    """Take a name for a step; return who waits for it already, None when it is ours.

    One that has it and waits no more loses it, as it was seen: should it wait again by then, its fence is another. The
    step itself, whose first answer was lost, has it.
    """
    gone = ""
    while True:
        word = await wire.lasting_script(_TAKE, [keys.signal(name)], waiter.word, max(1, for_ms), gone)
        if not word:
            return None
        holder = Holder.of(codec.text(word))
        if not is_heard(word) and not holder.is_step_of(waiter) and (await still_wait(wire, [holder]))[0]:
            return holder
        gone = codec.text(word)


async def give_signal(wire: Wire, name: str, waiter: Holder) -> None:
    """Give a name up, if the step still has it, whichever of its turns took it."""
    word = cast("bytes | None", await wire.load("GET", keys.signal(name)))
    if word is not None and Holder.of(codec.text(word)).is_step_of(waiter):
        await wire.lasting_script(_GIVE, [keys.signal(name)], word)


async def send_signal(wire: Wire, name: str, data: Any, *, sender: str = "") -> str | None:
    """Hand data to the run that waits for a signal; return that run's id, None when none waits.

    A `sender` (a run's step) that tries again, because its worker died before it knew, is told that it was heard.
    """
    check_signal(name)
    encoded, mark = as_json(data), _mark(sender) if sender else token()
    while word := cast("bytes | None", await wire.load("GET", keys.signal(name))):
        if is_heard(word):
            _, run, by = codec.text(word).split("|")
            return run if by == mark else None
        waiter = Holder.of(codec.text(word))
        heard = await resolve(wire, waiter.slug, waiter.run, waiter.step, "signal", encoded, mark=mark)
        # It was resolved before: by us, when the answer was lost or the try died; or by another.
        is_ours = heard not in ("gone", "there") or await _is_ours(wire, waiter, mark)
        leaves = (f"|{waiter.run}|{mark}", HEARD_MS) if is_ours and sender else ()
        await wire.lasting_script(_GIVE, [keys.signal(name)], word, *leaves)
        if is_ours:
            return waiter.run
    return None


def is_heard(word: bytes) -> bool:
    """Whether a name has no holder, only the note that a signal was heard: `|<run>|<mark of who sent it>`."""
    return word.startswith(b"|")


def _mark(sender: str) -> str:
    return hashlib.sha1(sender.encode(), usedforsecurity=False).hexdigest()[:20]


async def _is_ours(wire: Wire, waiter: Holder, mark: str) -> bool:
    memo = await wire.load("HGET", keys.steps(waiter.slug, waiter.run), waiter.step)
    return memo is not None and memo_of(memo).mark == mark
