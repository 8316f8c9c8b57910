"""Record: the hash of a run, read as what it is. Who reads one names the fields it wants in a struct, and gets no more.

What a field is, text, a number or JSON, is told by its type in the struct.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, TypeVar, get_args

import msgspec
from msgspec import Raw

from stepstream.bus.encryption.sealing import opened_raw
from stepstream.bus.event import LATEST_MS
from stepstream.bus.values import codec
from stepstream.bus.values.ids import ulid_ms
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.memo import Failure

ENDED = frozenset({"completed", "failed", "cancelled", "skipped"})
"""The statuses a run never leaves."""


class Record(msgspec.Struct, omit_defaults=True):
    """A run by its id and its function's slug; those that derive from it add the fields they want, with defaults."""

    id: str
    function: str


class RunSummary(Record):
    """What a list shows of a run: no event, output, error or progress. Times are Unix ms."""

    status: str = ""
    queued: int = 0
    started: int | None = None
    ended: int | None = None
    turn: int = 1
    attempt: int = 0
    crashes: int = 0
    worker: str = ""
    code: str = ""
    source: str = "event"
    parent: str = ""
    why: str = ""
    """Why it was skipped: rate_limit, singleton, debounced or batched."""
    by: str = ""
    """The run it is part of, or that kept it out."""

    def __post_init__(self) -> None:
        """Take the time in its id for a run that does not say when it was queued."""
        self.queued = self.queued or ulid_ms(self.id) or 0

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in ENDED


class Run(RunSummary):
    """A whole run as it is stored; `event`, `output` and `progress` are JSON."""

    event: Raw | None = None
    output: Raw | None = None
    error: Failure | None = None
    progress: Raw | None = None
    rerun_of: str = ""
    """The run that it runs again; empty: none."""
    reran: str = ""
    """The id of the last run that has run it again; empty: none.

    It is written as that one is queued, so that who runs many again leaves out what another has run again already.
    """

    def opened(self) -> "Run":
        """Return it with what is encrypted as it was; CannotOpen where this process cannot open that."""
        event, output = self.event and opened_raw(self.event), self.output and opened_raw(self.output)
        return msgspec.structs.replace(self, event=event, output=output)


R = TypeVar("R", bound=Record)


async def read(wire: Wire, kind: type[R], runs: Iterable[tuple[str, str]]) -> list[R | None]:
    """Return of each run (slug and id) what a kind of record has; None where nothing of that is stored.

    It is not repeated: StoreUnavailable when Redis is away.
    """
    wanted, names = list(runs), tuple(_converters(kind))
    asked = (("HMGET", keys.run(slug, run), *names) for slug, run in wanted)
    rows = await (wire.loads(*asked) if _has_payloads(kind) else wire.looks(*asked))
    return [_made(kind, slug, run, zip(names, row, strict=True)) for (slug, run), row in zip(wanted, rows, strict=True)]


def stored_json(raw: bytes | None) -> Raw | None:
    """Return stored JSON; what cannot be read (written by hand, or nested too deep) is shown as text."""
    if raw is None:
        return None
    try:
        codec.decode(raw)
    except msgspec.DecodeError:
        return as_text(raw)
    return Raw(raw)


def as_text(raw: bytes) -> Raw:
    """Return bytes as a JSON string."""
    return Raw(codec.encode(codec.text(raw)))


def fields_read(kind: type[Record], stored: Iterable[tuple[str, bytes | None]]) -> dict[str, Any]:
    """Return the values of a record's fields, from names and texts; what is not stored, or is empty, is left out."""
    converters, given = _converters(kind), [(name, raw) for name, raw in stored if raw]
    try:
        return {name: converters[name](raw) for name, raw in given}
    except ValueError:
        return dict(_readable(converters, given))


def _readable(
    converters: Mapping[str, Callable[[bytes], Any]], given: Iterable[tuple[str, bytes]]
) -> Iterator[tuple[str, Any]]:
    """Yield the fields that can be read: a number that is none was written by hand, and hides no other field."""
    for name, raw in given:
        with contextlib.suppress(ValueError):
            yield name, converters[name](raw)


def _made(kind: type[R], slug: str, run: str, stored: Iterable[tuple[str, bytes | None]]) -> R | None:
    there = [(name, raw) for name, raw in stored if raw is not None]
    return kind(id=run, function=slug, **fields_read(kind, there)) if there else None


def _number(raw: bytes) -> int:
    """Return a number; ValueError for what is none, and for one that no number of a run is (a moment of year 10000)."""
    number = int(raw)
    if not -LATEST_MS <= number <= LATEST_MS:
        raise ValueError(f"{raw[:40]!r} is too large")
    return number


def _failure(raw: bytes) -> Failure:
    try:
        return codec.decode_as(raw, Failure)
    except ValueError:  # written by hand: it is shown as it is
        return Failure("unreadable", codec.text(raw))


_OF_TYPE: Mapping[Any, Callable[[bytes], Any]] = {
    str: codec.text,
    int: _number,
    bytes: bytes,
    Raw: stored_json,
    Failure: _failure,
}


def _has_payloads(kind: type[Record]) -> bool:
    """Whether what is read of a kind may be large."""
    return not set(_converters(kind).values()) <= {codec.text, _number}


@cache
def _converters(kind: type[Record]) -> dict[str, Callable[[bytes], Any]]:
    """Return for each stored field of a kind what makes its value."""
    return {
        field.name: next(_OF_TYPE[one] for one in (field.type, *get_args(field.type)) if one in _OF_TYPE)
        for field in msgspec.structs.fields(kind)
        if field.name not in Record.__struct_fields__
    }
