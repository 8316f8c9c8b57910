"""Signals: a value for the one run that waits for a name. Sent to nobody, it is not kept."""

from typing import Any, cast

from bus.errors import EventInvalid
from bus.event import as_json
from bus.wire import keys
from bus.wire.retry import patiently
from bus.wire.wire import Wire
from checkpoint.resolve import resolve

MAX_NAME = 256


def check_signal(name: str) -> None:
    """Refuse a signal's name that is empty, too long or not printable."""
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise EventInvalid(f"must be 1 to {MAX_NAME} printable characters, got {name[:40]!r}", field="signal")


async def await_signal(wire: Wire, name: str, waiter: str, for_ms: int) -> str | None:
    """Take the name for a waiter (`<slug>|<run>|<step>`); return who has it already, None when it is ours."""
    key = keys.signal(name)
    if await patiently(lambda: wire.call("SET", key, waiter, "NX", "PX", max(1, for_ms))):
        return None
    holder = await patiently(lambda: wire.call("GET", key))
    if holder is None or holder.decode() == waiter:
        return None
    return holder.decode()


async def send_signal(wire: Wire, name: str, data: Any) -> str | None:
    """Hand data to the run that waits for a signal; return that run's id, None when none waits."""
    check_signal(name)
    encoded = as_json(data)
    key = keys.signal(name)
    holder = cast("bytes | None", await patiently(lambda: wire.call("GET", key)))
    if holder is None:
        return None
    slug, run, step = holder.decode().split("|", 2)
    word = await resolve(wire, slug, run, step, "signal", encoded)
    await patiently(lambda: wire.call("DEL", key))
    return None if word in ("gone", "there") else run
