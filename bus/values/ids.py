"""Ids: ULIDs for events, and run ids derived from what made the run.

The same cause always gives the same run, so creating a run is idempotent (docs/design/delivery.md). A run id is a
ULID whose time is the entry's and whose 80 random bits are a hash of the cause: the stream's name is part of it,
because two streams do give one entry id in the same millisecond.
"""

import hashlib
import os
import time
from collections.abc import Generator
from functools import lru_cache

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = tuple(a + b for a in _CROCKFORD for b in _CROCKFORD)
_VALUES = {letter: value for value, letter in enumerate(_CROCKFORD)}


def _eight(five: bytes) -> str:
    """Return five bytes as eight letters; written out, for every event and run passes here."""
    value, pairs = int.from_bytes(five), _PAIRS
    return pairs[value >> 30] + pairs[value >> 20 & 1023] + pairs[value >> 10 & 1023] + pairs[value & 1023]


@lru_cache(maxsize=1_024)
def _ten(ms: int) -> str:
    """Return a time as ten letters; many ids share one."""
    return "".join([_PAIRS[ms >> shift & 1023] for shift in (40, 30, 20, 10, 0)])


def _encode(ms: int, entropy: bytes) -> str:
    return _ten(ms) + _eight(entropy[:5]) + _eight(entropy[5:10])


def ulid(ms: int | None = None) -> str:
    """Return a new ULID, 26 letters, sortable by time."""
    return _encode(time.time_ns() // 1_000_000 if ms is None else ms, os.urandom(10))


def ulid_ms(text: str) -> int | None:
    """Return a ULID's time in Unix milliseconds; None for what is no ULID."""
    if len(text) != 26 or any(letter not in _VALUES for letter in text):
        return None
    value = 0
    for letter in text[:10]:
        value = value << 5 | _VALUES[letter]
    return value


def run_id(slug: str, source: str, cause: str, ms: int) -> str:
    """Return the run id of a function (its slug) for a cause.

    `source` is what kind of thing made it (`event`), `cause` names it (`<event name>|<entry id>`), `ms` is its time.
    """
    # SHA-1 because Redis has it: run_arrive.lua makes the same id (docs/decisions/0008). It need only spread.
    return _encode(ms, hashlib.sha1(f"{slug}\0{source}\0{cause}".encode(), usedforsecurity=False).digest())


def entry_ms(entry_id: str) -> int:
    """Return the time of a stream entry id (`1700000000000-3`) in Unix milliseconds."""
    return int(entry_id.partition("-")[0])


def entry_place(entry_id: str) -> tuple[int, int]:
    """Return the place of a stream entry among the others: what ids are ordered by."""
    ms, _, number = entry_id.partition("-")
    return int(ms), int(number or 0)


def _tokens() -> Generator[str]:
    while True:
        pool = os.urandom(9 * 256).hex()  # one system call for many: 72 bits each
        for start in range(0, len(pool), 18):
            yield pool[start : start + 18]


token = _tokens().__next__
"""token() returns an unguessable token: the fence of one delivery."""
