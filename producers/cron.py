"""Cron: turns the ticks of a schedule into queue entries. A schedule that is new or was changed begins now.

The last tick is stored, and no earlier one runs. If the server's clock is set back behind it, the schedule waits for
the clock to catch up, at most for its own period or five minutes, whichever is longer. After that it begins anew:
earlier ticks run again, one after another, as the clock passes them.
"""

from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Raw

from stepstream.bus.cron import Cron
from stepstream.bus.event import RawEvent
from stepstream.bus.observe.signals import Signals
from stepstream.bus.process.failpoints import reached
from stepstream.bus.values import codec
from stepstream.bus.values.durations import in_words
from stepstream.bus.values.ids import FIRST, run_id
from stepstream.bus.wire import keys
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.wire import Wire

_TICK = script(__file__, "cron_tick")

TICK = "bus/cron.tick"
SILENT_MS = 300_000


class _Noted(msgspec.Struct, frozen=True):
    """What is stored of a schedule, ms: its last tick, and how far its ticks had come before the clock was set back."""

    last: int
    before: int = 0

    @classmethod
    def of(cls, raw: bytes) -> "_Noted":
        """Parse what is stored; of what was written by hand, and is none, as if nothing ever ticked."""
        last, before, *_ = [*map(codec.whole, raw.split()), 0, 0]
        return cls(last, before)

    @property
    def stored(self) -> str:
        """The text that is stored."""
        return f"{self.last} {self.before}" if self.before > self.last else f"{self.last}"


def last_tick(raw: bytes) -> int:
    """Return the last tick that is noted of a schedule, ms, or when it was declared."""
    return _Noted.of(raw).last


def run_of_tick(slug: str, cron: Cron, raw: bytes) -> str:
    """Return the id that the run of the last tick has, if that began one: `raw` is what is noted of the schedule."""
    noted = _Noted.of(raw)
    return _run_id(slug, cron, noted.last, noted)


def _run_id(slug: str, cron: Cron, due: int, noted: _Noted) -> str:
    cause = f"{cron.text}|{due}" + (f"|{noted.before}" if due <= noted.before else "")
    return run_id(slug, "cron", cause, due, FIRST)  # where the schedule is: it is queued in the same act


async def tick(wire: Wire, slug: str, cron: Cron, signals: Signals, looked: int | None = None) -> int:
    """Queue the run of the schedule's latest tick unless that was done; return the ms until the next one.

    `looked` is when the caller looked last, server ms: should the stored tick be lost, everything up to then is done.
    """
    now = await wire.moment()
    await wire.call("HSETNX", keys.cron(slug), cron.text, now if looked is None else min(looked, now))
    raw: Any = await wire.call("HGET", keys.cron(slug), cron.text)
    noted = _Noted.of(raw)
    due = cron.last_before(now)
    if due + cron.delay(due, slug) > now:  # by its jitter it is still to come
        due = cron.last_before(due - 1)
    if due > noted.last:
        await _deal_with(wire, slug, cron, signals, raw, noted, due, now - due - cron.delay(due, slug))
    elif noted.last - now > max(SILENT_MS, cron.period(now)):
        anew = _Noted(now, max(noted.last, noted.before))
        if await wire.script(_TICK, [keys.function(slug, FIRST)], cron.text, raw, anew.stored, "", ""):
            behind = in_words(noted.last - now)
            signals.notice(
                "a schedule begins anew: the server's clock is behind its last tick",
                function=slug,
                cron=cron.text,
                by=behind,
            )
    following = cron.next_after(due)
    return max(1, following + cron.delay(following, slug) - now)


async def _deal_with(
    wire: Wire, slug: str, cron: Cron, signals: Signals, raw: bytes, noted: _Noted, due: int, late_ms: int
) -> None:
    is_again = due <= noted.before
    # The clock was set back and is now forward again: this tick ran before, and was jumped over this time.
    has_run = is_again and cron.last_before(due - 1) > noted.last
    runs = late_ms <= cron.grace(due) and not has_run
    run = _run_id(slug, cron, due, noted) if runs else ""
    then = _Noted(due, noted.before).stored
    event = codec.encode(_event(cron, due))
    dealt = await wire.script(_TICK, [keys.function(slug, FIRST)], cron.text, raw, then, run, event)
    reached("cron.ticked")
    if dealt and not runs and not has_run:
        signals.notice("a tick was noticed too late, and does not run", function=slug, cron=cron.text, late_ms=late_ms)


def _event(cron: Cron, due: int) -> RawEvent:
    moment = datetime.fromtimestamp(due / 1_000, UTC).isoformat().replace("+00:00", "Z")
    data = {"cron": cron.expression, "tz": cron.tz, "scheduledAt": moment}
    return RawEvent(id=moment, name=TICK, data=Raw(codec.encode(data)), ts=due)
