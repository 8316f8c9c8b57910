"""Seed: what an SDK sends with events, so that they get the same ids when it repeats the request."""

import base64
import binascii
from typing import NamedTuple

from stepstream.bus.values.ids import ulid_of

HEADER = "x-inngest-event-id-seed"

_LATEST_MS = (1 << 48) - 1
_NUMBERED = 4
"""How many of the ten bytes, the last ones, count the events of a request."""


class Seed(NamedTuple):
    """A time, Unix ms, and ten bytes: the internal ids of a request's events are made of them, and of their places."""

    ms: int
    entropy: bytes

    def id_of(self, position: int) -> str:
        """Return the internal id of the event at a position, from 0."""
        fixed, number = self.entropy[:-_NUMBERED], int.from_bytes(self.entropy[-_NUMBERED:])
        return ulid_of(self.ms, fixed + ((number + position + 1) % (1 << 8 * _NUMBERED)).to_bytes(_NUMBERED))


def seed_of(header: str | None) -> Seed | None:
    """Return the seed of a header, `<Unix ms>,<ten bytes as base64>`; None for any other text, which is ignored."""
    ms, _, encoded = (header or "").partition(",")
    if not (ms.isascii() and ms.isdecimal() and len(ms) <= 15 and int(ms) <= _LATEST_MS):
        return None
    try:
        entropy = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
    return Seed(int(ms), entropy) if len(entropy) == 10 else None
