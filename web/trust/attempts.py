"""Attempts: how many log-ins have failed, of a name and from an address, and when that was too many."""

import hashlib

from stepstream.bus.trust.rates import TooMany
from stepstream.bus.values.durations import in_words
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire

WITHIN_MS = 900_000
"""For how long a log-in that failed counts, ms, from the first."""
MOST_OF_PAIR, MOST_OF_ADDRESS, MOST_OF_NAME = 10, 50, 100
"""How many: of a name from one address, from an address, and of a name from wherever.

The last is larger, or anybody could keep somebody out by guessing.
"""
_MOST = {"pair": MOST_OF_PAIR, "address": MOST_OF_ADDRESS, "name": MOST_OF_NAME}


class TooManyAttempts(TooMany):
    """Too many log-ins have failed: of a name from an address (`pair`), from an `address`, or of a `name`.

    `is_first`: those before it were let try.
    """

    code = "too_many_attempts"

    def __init__(self, after_s: int, kind: str, *, is_first: bool) -> None:
        self.kind = kind
        self.is_first = is_first
        super().__init__(f"too many log-ins have failed: try again in {in_words(after_s * 1_000)}", after_s)


async def begin(wire: Wire, name: str, address: str) -> None:
    """Count an attempt, before its password is looked at: many at once are counted, too. TooManyAttempts."""
    for kind, of in _kinds(name, address).items():
        count = await _add(wire, of, 1)
        if count > _MOST[kind]:
            left_ms = max(1_000, int(await wire.call("PTTL", keys.login(of))))
            raise TooManyAttempts(-(-left_ms // 1_000), kind, is_first=count == _MOST[kind] + 1)


async def succeeded(wire: Wire, name: str, address: str) -> None:
    """Take an attempt back that has not failed, and forget those of this name from this address: they were theirs."""
    kinds = _kinds(name, address)
    await wire.call("DEL", keys.login(kinds.pop("pair")))
    for of in kinds.values():
        await _add(wire, of, -1)


async def _add(wire: Wire, of: str, count: int) -> int:
    found = await wire.call("INCRBY", keys.login(of), count)
    await wire.call("PEXPIRE", keys.login(of), WITHIN_MS, "NX")
    return int(found)


def _kinds(name: str, address: str) -> dict[str, str]:
    """Return what is counted; names are not kept as they were written: it may have been a password."""
    coded = hashlib.sha256(name.encode()).hexdigest()[:32]
    return {"pair": f"{coded} {address}", "address": address, "name": coded}
