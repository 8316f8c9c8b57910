"""Attempts: how often somebody has tried to log in in vain, and when that was too often."""

import hashlib

from stepstream.bus.errors import BusError
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire

WITHIN_MS = 900_000
"""For how long a vain attempt counts, ms, from the first."""
MOST_OF_PAIR, MOST_OF_ADDRESS, MOST_OF_NAME = 10, 50, 100
"""How many: of a name from one address, from an address, and of a name from wherever.

The last is larger, or anybody could keep somebody out by guessing.
"""
_MOST = {"pair": MOST_OF_PAIR, "address": MOST_OF_ADDRESS, "name": MOST_OF_NAME}


class TooManyAttempts(BusError):
    """Too many log-ins have failed."""

    code = "too_many_attempts"
    status = 429

    def __init__(self, after_s: int) -> None:
        super().__init__(f"too many log-ins have failed: try again in {after_s} s")
        self.after_s = after_s


async def check(wire: Wire, name: str, address: str) -> None:
    """Raise TooManyAttempts where there were too many."""
    for kind, of in _kinds(name, address).items():
        if int(await wire.call("GET", keys.login(of)) or 0) >= _MOST[kind]:
            left_ms = max(1_000, int(await wire.call("PTTL", keys.login(of))))
            raise TooManyAttempts(-(-left_ms // 1_000))


async def failed(wire: Wire, name: str, address: str) -> None:
    """Count a vain attempt."""
    for of in _kinds(name, address).values():
        await wire.call("INCR", keys.login(of))
        await wire.call("PEXPIRE", keys.login(of), WITHIN_MS, "NX")


async def succeeded(wire: Wire, name: str, address: str) -> None:
    """Forget the vain attempts of a name from an address: they were theirs."""
    await wire.call("DEL", keys.login(_kinds(name, address)["pair"]))


def _kinds(name: str, address: str) -> dict[str, str]:
    """Return what is counted; names are not kept as they were written: it may have been a password."""
    coded = hashlib.sha256(name.encode()).hexdigest()[:32]
    return {"pair": f"{coded} {address}", "address": address, "name": coded}
