"""Rates: how often one address, or one event key, may ask to publish. Counted in this process, and nowhere else."""

import hashlib
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

import msgspec

from stepstream.bus.errors import BusError, ConfigError
from stepstream.bus.values.durations import milliseconds

KINDS = ("address", "key")
MOST_CALLERS = 10_000
"""So many addresses, and keys, are remembered; who asked longest ago is forgotten first."""
_MOST_COUNT = 1_000_000


class TooMany(BusError):
    """Somebody asks too often. `after_s` says in how many seconds they may ask again."""

    code = "too_many"
    status = 429

    def __init__(self, message: str, after_s: int) -> None:
        super().__init__(message)
        self.after_s = after_s


class Rate(msgspec.Struct, frozen=True):
    """So many requests within so many ms; all of them may come at once."""

    count: int
    per_ms: int


def rates(texts: Sequence[str], what: str) -> dict[str, Rate]:
    """Return the rates of texts like `address=100/1s` and `key=5000/1m`, by kind; ConfigError, naming `what`."""
    found: dict[str, Rate] = {}
    for text in texts:
        kind, _, rate = (part.strip() for part in text.partition("="))
        count, slash, period = (part.strip() for part in rate.partition("/"))
        if kind not in KINDS or not slash or not (count.isascii() and count.isdecimal() and len(count) <= 7):
            raise ConfigError(f"{what}: {text[:40]!r} is no rate; write address=100/1s, key=5000/1m, or both")
        if kind in found:
            raise ConfigError(f"{what}: {kind} is there twice")
        made = Rate(int(count), milliseconds(period, f"{what}: the period of {kind}"))
        if not 1 <= made.count <= _MOST_COUNT or not 1_000 <= made.per_ms <= 86_400_000:
            raise ConfigError(f"{what}: {text[:40]!r} must be 1 to {_MOST_COUNT} requests within 1s to 1d")
        found[kind] = made
    return found


class Rates:
    """Who has asked how often. `now` gives the time in seconds, which never goes back."""

    def __init__(self, allowed: dict[str, Rate], now: Callable[[], float] = time.monotonic) -> None:
        self._allowed = allowed
        self._now = now
        self._free: dict[str, OrderedDict[bytes, float]] = {kind: OrderedDict() for kind in allowed}

    def take(self, kind: str, caller: str) -> None:
        """Count a request of an address or a key; TooMany when it comes too soon, which is not counted."""
        allowed = self._allowed.get(kind)
        if allowed is None:
            return
        period, each = allowed.per_ms / 1_000, allowed.per_ms / 1_000 / allowed.count
        free, now = self._free[kind], self._now()
        who = _who(kind, caller)
        # As if they came one by one: when the last one counted would have been worked off.
        done = max(free.get(who, now), now) + each
        if done - now > period + 1e-9:
            after = max(1, round(done - now - period + 0.5))
            raise TooMany(
                f"too many requests {'with this event key' if kind == 'key' else 'from this address'}: "
                f"at most {allowed.count} within {allowed.per_ms / 1_000:g} s; try again in {after} s",
                after,
            )
        free.pop(who, None)  # so that it stands last
        free[who] = done
        if len(free) > MOST_CALLERS:
            free.popitem(last=False)


def _who(kind: str, caller: str) -> bytes:
    """Return what stands for a caller: not the key itself; of IPv6 the network, for who has one has all of it."""
    if kind == "address":
        try:
            address = ipaddress.ip_address(caller)
        except ValueError:  # a socket of this machine has none
            return caller.encode()
        if isinstance(address, ipaddress.IPv6Address):
            return (address.ipv4_mapped or address).packed[: 8 if address.ipv4_mapped is None else 4]
        return address.packed
    return hashlib.sha256(caller.encode()).digest()[:16]
