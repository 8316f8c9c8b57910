"""Ids: ULIDs for events, and run ids derived from what made the run.

The same cause always gives the same run, so creating a run is idempotent (docs/design/delivery.md). A run id is a ULID:
26 letters that sort by time. What is random in other ULIDs says here whose run it is:

    letters 1-10   the time of the cause, Unix ms (48 bits)
    letters 11-14  a hash of the function's slug (20 bits): a run is found by its id alone
    letters 15-16  the partition of the function that the run lies in (10 bits)
    letters 17-26  a hash of the function, the source and the cause (50 bits)

A stream's name is part of the cause, because two streams do give one entry id in the same millisecond.

Two causes of one function in one millisecond that share the last 50 bits would be taken for one run, and the second
would not run. Their chance is 1 in 2**50 a pair: a function with a thousand runs in every millisecond of a year would
lose about fourteen. Two functions may share their 20 bits (among 1,400 functions about one pair does): a look-up then
asks both, and the last 50 bits tell their runs apart.
"""

import hashlib
import os
import re
import time
from collections.abc import Generator
from functools import lru_cache

SLUG_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
"""What a bus or a function may be called, whose slug is `<bus>-<function>`; and the name of a shared limit."""
_ENTRY = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = tuple(a + b for a in _CROCKFORD for b in _CROCKFORD)
_VALUES = {letter: value for value, letter in enumerate(_CROCKFORD)}

FIRST = "00"
"""The first partition of a function: where its runs lie while it has one, and what it has but once."""
SPREAD: dict[str, int] = {}
"""Over how many partitions (1,024 at most) the runs of a function are spread, by its slug. Any other function has one.

None is spread today. The number belongs to the ids of its runs: once it has runs, it stays (docs/decisions/0034).
"""


def _eight(five: bytes) -> str:
    """Return five bytes as eight letters; written out, for every event passes here."""
    value, pairs = int.from_bytes(five), _PAIRS
    return pairs[value >> 30] + pairs[value >> 20 & 1023] + pairs[value >> 10 & 1023] + pairs[value & 1023]


@lru_cache(maxsize=1_024)
def _ten(ms: int) -> str:
    """Return a time as ten letters; many ids share one."""
    return "".join([_PAIRS[ms >> shift & 1023] for shift in (40, 30, 20, 10, 0)])


def _sha1(text: str) -> bytes:
    # SHA-1 because Redis has it: run_start_eagerly.lua makes the same ids (docs/decisions/0008). It need only spread.
    return hashlib.sha1(text.encode(), usedforsecurity=False).digest()


def ulid(ms: int | None = None) -> str:
    """Return a new ULID, 26 letters, sortable by time."""
    return ulid_of(time.time_ns() // 1_000_000 if ms is None else ms, os.urandom(10))


def ulid_of(ms: int, entropy: bytes) -> str:
    """Return the ULID of a time, Unix ms, and ten bytes."""
    return _ten(ms) + _eight(entropy[:5]) + _eight(entropy[5:])


def ulid_ms(text: str) -> int | None:
    """Return a ULID's time in Unix milliseconds; None for what is no ULID."""
    if len(text) != 26 or any(letter not in _VALUES for letter in text):
        return None
    value = 0
    for letter in text[:10]:
        value = value << 5 | _VALUES[letter]
    return value


@lru_cache(maxsize=4_096)
def owner_letters(slug: str) -> str:
    """Return letters 11 to 16 of a function's run ids: the hash of its slug, and the first partition."""
    return _eight(_sha1(slug)[:5])[:4] + FIRST


def partitions(slug: str) -> tuple[str, ...]:
    """Return the partitions of a function: whoever goes through all of its runs goes through each."""
    return _PAIRS[: SPREAD.get(slug, 1)]


def partition_of(run: str) -> str:
    """Return the partition that a run lies in, as its id says."""
    return run[14:16]


def is_run_of(run: str, slug: str) -> bool:
    """Whether a run id may be one of a function's; of two functions both do once in a million."""
    return run[10:14] == owner_letters(slug)[:4]


def run_id(slug: str, source: str, cause: str, ms: int, partition: str = "") -> str:
    """Return the run id of a function (its slug) for a cause.

    `source` is what kind of thing made it (`event`), `cause` names it (`<event name>|<entry id>`), `ms` is its time.
    `partition` is given for a run that must lie beside something; the others are spread by their hash.
    """
    value, pairs = int.from_bytes(_sha1(f"{slug}\0{source}\0{cause}")[:7]) >> 6, _PAIRS
    owner = owner_letters(slug)
    if slug in SPREAD:
        owner = owner[:4] + (partition or pairs[value % SPREAD[slug]])
    return (
        _ten(ms)
        + owner
        + pairs[value >> 40]
        + pairs[value >> 30 & 1023]
        + pairs[value >> 20 & 1023]
        + pairs[value >> 10 & 1023]
        + pairs[value & 1023]
    )


def is_entry(text: str) -> bool:
    """Whether a text is an id that an entry of a stream can have: two numbers of 64 bits, `1700000000000-3`."""
    return _ENTRY.fullmatch(text) is not None and max(entry_place(text)) < 2**64


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
