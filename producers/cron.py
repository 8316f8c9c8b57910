"""Cron: turns a schedule's ticks into queue entries. A schedule that is new, or was changed, begins now."""

from datetime import UTC, datetime
from typing import Any

from msgspec import Raw

from bus import codec
from bus.cron import Cron
from bus.event import RawEvent
from bus.failpoints import reached
from bus.ids import run_id
from bus.observe.signals import Signals
from bus.wire import keys
from bus.wire.wire import Wire

TICK = "bus/cron.tick"


async def tick(wire: Wire, slug: str, cron: Cron, signals: Signals) -> int:
    """Queue the run of the schedule's latest tick if nobody has; return ms until the next one."""
    now = await wire.moment()
    await wire.call("HSETNX", keys.cron(slug), cron.words, now)
    last: Any = await wire.call("HGET", keys.cron(slug), cron.words)
    due = cron.last_before(now)
    if due > int(last):
        late = now - due
        runs = late <= cron.grace(due)
        run = run_id(slug, "cron", f"{cron.words}|{due}", due) if runs else ""
        dealt = await wire.script(
            "cron_tick", [keys.function(slug)], cron.words, due, run, codec.encode(_event(cron, due))
        )
        reached("cron.ticked")
        if dealt and not runs:
            signals.notice("a tick was missed, and is too late to run", function=slug, cron=cron.words, late_ms=late)
    return max(1, cron.next_after(now) - now)


def _event(cron: Cron, due: int) -> RawEvent:
    moment = datetime.fromtimestamp(due / 1_000, UTC).isoformat().replace("+00:00", "Z")
    data = {"cron": cron.expression, "tz": cron.tz, "scheduledAt": moment}
    return RawEvent(id=moment, name=TICK, data=Raw(codec.encode(data)), ts=due)
