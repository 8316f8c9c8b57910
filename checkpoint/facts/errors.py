"""Errors: of what the runs of functions failed, in groups: one for each name and place in the author's code."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import msgspec

from stepstream.bus.values import codec
from stepstream.bus.values.ids import partitions
from stepstream.bus.wire import keys
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.facts.marks import About

_STATE = script(__file__, "error_state")

_FEW = 100
_WORDS = ("", " count", " first", " last", " run", " state", " until", " regressed")
"""What is stored of an error, behind its mark."""

State = Literal["open", "resolved", "muted"]


class ErrorGroup(msgspec.Struct):
    """An error of a function: which (`fingerprint`), its `name`, where it was raised, and the newest message.

    `first` and `last` it came, server ms; `run` is the last run that failed of it. A `resolved` one that comes again is
    open, and `regressed` says when. One is `muted` until that time, or for good (0).
    """

    function: str
    fingerprint: str
    name: str
    frame: str = ""
    message: str = ""
    first: int = 0
    last: int = 0
    count: int = 0
    run: str = ""
    state: State = "open"
    until: int = 0
    regressed: int = 0


async def errors_of(wire: Wire, slugs: Sequence[str]) -> list[ErrorGroup]:
    """Return the errors of functions, the newest first: at most 500 of each function."""
    asked = [(slug, where) for slug in slugs for where in partitions(slug)]
    replies = await wire.looks(*(("HGETALL", keys.errors(slug, where)) for slug, where in asked), patience=2.0)
    return _told(asked, replies, await wire.moment())


async def errors_among(wire: Wire, marks: Mapping[str, Collection[str]]) -> list[ErrorGroup]:
    """Return those errors of functions that have one of some marks, the newest first."""
    asked = [(slug, where) for slug, some in marks.items() if some for where in partitions(slug)]
    replies = await asyncio.gather(*(_some(wire, keys.errors(*one), marks[one[0]]) for one in asked))
    return _told(asked, replies, await wire.moment())


async def _some(wire: Wire, key: str, marks: Collection[str]) -> list[Any]:
    """Return the fields of some errors, and what they hold; of many all are read."""
    if len(marks) > _FEW:
        return await wire.look("HGETALL", key)
    names = [f"{mark}{word}" for mark in sorted(marks) for word in _WORDS]
    values = await wire.look("HMGET", key, *names)
    return [each for name, value in zip(names, values, strict=True) if value is not None
            for each in (name.encode(), value)]  # fmt: skip


def _told(asked: Sequence[tuple[str, str]], replies: Sequence[Sequence[Any]], now: int) -> list[ErrorGroup]:
    found: dict[tuple[str, str], ErrorGroup] = {}
    for (slug, _), flat in zip(asked, replies, strict=True):
        for one in _groups(slug, flat, now):
            other = found.get((slug, one.fingerprint))
            found[slug, one.fingerprint] = one if other is None else _joined(one, other)
    return sorted(found.values(), key=lambda one: -one.last)


async def set_error_state(wire: Wire, slug: str, fingerprint: str, state: State, until: int = 0) -> bool:
    """Say that an error is resolved, or muted until a time (server ms; 0: for good), or open; False when there is none.

    A group that is told nothing of for 30 days is forgotten, with its state.
    """
    changed = [
        await wire.lasting_script(_STATE, [keys.function(slug, where)], fingerprint, state, until)
        for where in partitions(slug)
    ]
    return any(changed)


def _groups(slug: str, flat: Sequence[Any], now: int) -> list[ErrorGroup]:
    """Return the groups that a hash holds; what was written into it by hand is passed over."""
    fields = {codec.text(name): value for name, value in zip(flat[::2], flat[1::2], strict=True)}
    groups: list[ErrorGroup] = []
    for mark, raw in fields.items():
        if " " in mark:
            continue
        about = codec.stored_as(raw, About)
        if about is None:
            continue

        def number(word: str, mark: str = mark) -> int:
            value = fields.get(f"{mark} {word}", b"0")
            return int(value) if value.isdigit() else 0

        state = codec.text(fields.get(f"{mark} state", b""))
        until = number("until")
        is_muted = state == "muted" and (not until or until > now)
        groups.append(
            ErrorGroup(
                slug, mark, about.name, about.frame, about.message, number("first"), number("last"), number("count"),
                codec.text(fields.get(f"{mark} run", b"")),
                "muted" if is_muted else "resolved" if state == "resolved" else "open",
                until if is_muted else 0, number("regressed"),
            )
        )  # fmt: skip
    return groups


def _joined(one: ErrorGroup, other: ErrorGroup) -> ErrorGroup:
    """Return what two partitions of a function know of an error, as one."""
    newest = max(one, other, key=lambda each: each.last)
    first = min(each.first for each in (one, other))
    return msgspec.structs.replace(newest, first=first, count=one.count + other.count)
