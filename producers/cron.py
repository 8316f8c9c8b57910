"""Cron: turns a schedule's ticks into queue entries. A schedule that is new, or was changed, begins now.

Its last tick is remembered, and no earlier one runs. When the server's clock is set back behind it, the schedule waits
until the clock has caught up, for its own period or five minutes at most; if that is not enough it begins anew, and the
ticks it has had run again as the clock comes by them, one after another.
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
from stepstream.bus.values.ids import run_id
from stepstream.bus.wire import keys
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.wire import Wire

_TICK = script(__file__, "cron_tick")

TICK = "bus/cron.tick"
SILENT_MS = 300_000


class _Noted(msgspec.Struct, frozen=True):
    """What is noted of a schedule: its last tick, and up to which it had been due before the clock was set back, ms."""

    last: int
    before: int = 0

    @classmethod
    def of(cls, raw: bytes) -> "_Noted":
        """Read what is noted."""
        return cls(*(int(part) for part in raw.split()))

    @property
    def words(self) -> str:
        """How it is noted."""
        return f"{self.last} {self.before}" if self.before > self.last else f"{self.last}"


async def tick(wire: Wire, slug: str, cron: Cron, signals: Signals, looked: int | None = None) -> int:
    """Queue the run of the schedule's latest tick if nobody has; return ms until the next one.

    `looked` is when the caller looked last, server ms: all until then was dealt with, should the store not know.
    """
    now = await wire.moment()
    await wire.call("HSETNX", keys.cron(slug), cron.words, now if looked is None else min(looked, now))
    raw: Any = await wire.call("HGET", keys.cron(slug), cron.words)
    noted = _Noted.of(raw)
    due = cron.last_before(now)
    if due > noted.last:
        await _deal_with(wire, slug, cron, signals, raw, noted, due, now - due)
    elif noted.last - now > max(SILENT_MS, cron.period(now)):
        anew = _Noted(now, max(noted.last, noted.before))
        if await wire.script(_TICK, [keys.function(slug)], cron.words, raw, anew.words, "", ""):
            behind = in_words(noted.last - now)
            signals.notice(
                "a schedule begins anew: the clock is behind its last tick", function=slug, cron=cron.words, by=behind
            )
    return max(1, cron.next_after(now) - now)


async def _deal_with(
    wire: Wire, slug: str, cron: Cron, signals: Signals, raw: bytes, noted: _Noted, due: int, late_ms: int
) -> None:
    is_again = due <= noted.before
    # The clock was set back, and now forth again: this tick has run, and its turn has not come a second time.
    has_run = is_again and cron.last_before(due - 1) > noted.last
    runs = late_ms <= cron.grace(due) and not has_run
    cause = f"{cron.words}|{due}" + (f"|{noted.before}" if is_again else "")
    run = run_id(slug, "cron", cause, due) if runs else ""
    then = _Noted(due, noted.before).words
    event = codec.encode(_event(cron, due))
    dealt = await wire.script(_TICK, [keys.function(slug)], cron.words, raw, then, run, event)
    reached("cron.ticked")
    if dealt and not runs and not has_run:
        signals.notice("a tick was missed, and is too late to run", function=slug, cron=cron.words, late_ms=late_ms)


def _event(cron: Cron, due: int) -> RawEvent:
    moment = datetime.fromtimestamp(due / 1_000, UTC).isoformat().replace("+00:00", "Z")
    data = {"cron": cron.expression, "tz": cron.tz, "scheduledAt": moment}
    return RawEvent(id=moment, name=TICK, data=Raw(codec.encode(data)), ts=due)
