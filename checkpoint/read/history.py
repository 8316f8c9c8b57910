"""History: runs as people see them, and their steps. Reads only; skips members that outlived their run."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from stepstream.bus.errors import BadRequest
from stepstream.bus.values import codec
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.memo import Failure, Memo, Open, memo_of, open_of
from stepstream.checkpoint.run.record import Record, Run, RunSummary, as_text, read

STATUSES = ("queued", "running", "waiting", "completed", "failed", "cancelled", "skipped")


def statuses_of(status: str | None) -> tuple[str, ...]:
    """Return one status as a list is asked for it, all without one; BadRequest when there is none of that name."""
    if status is None:
        return STATUSES
    if status not in STATUSES:
        raise BadRequest(f"status {status[:40]!r} is none; there are {', '.join(STATUSES)}")
    return (status,)


_EVENTS_AT_ONCE = 25
"""An event has 3 MiB at most, and there may be a thousand waits."""


class StepView(msgspec.Struct, omit_defaults=True):
    """A step as people see it: finished (`ended`) or open (`due`: until when it waits)."""

    id: str
    kind: str
    state: str
    started: int
    since: int = 0
    attempts: int = 1
    ended: int | None = None
    due: int | None = None
    what: Raw | None = None
    data: Raw | None = None
    error: Failure | None = None


async def counts(wire: Wire, slugs: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return how many runs each function has of each status."""
    rows: list[int] = (
        await wire.loads(*(("ZCARD", keys.runs(s, status)) for s in slugs for status in STATUSES)) if slugs else []
    )
    found = iter(rows)
    return {slug: {status: next(found) for status in STATUSES} for slug in slugs}


async def whole(wire: Wire, runs: Sequence[RunSummary]) -> list[Run]:
    """Return runs of a list with their event, output and error; those that are gone are left out."""
    found = await read(wire, Run, [(run.function, run.id) for run in runs])
    return [run for run in found if run is not None]


class _WithEvent(Record):
    """A run's own event, as stored JSON."""

    event: bytes = b""


async def events_json(wire: Wire, runs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the own events of runs (each slug and run) as plain values; what is gone or makes no sense is left out."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    wanted = list(runs)
    for start in range(0, len(wanted), _EVENTS_AT_ONCE):
        part = wanted[start : start + _EVENTS_AT_ONCE]
        rows = await patiently(lambda part=part: read(wire, _WithEvent, part))
        for run, stored in zip(part, rows, strict=True):
            try:
                found[run] = codec.decode_as(stored.event if stored else b"", dict[str, Any])
            except msgspec.MsgspecError:
                continue
    return found


async def event_json(wire: Wire, slug: str, run: str) -> dict[str, Any] | None:
    """Return a run's own event as plain values; None when the run is gone or its event makes no sense."""
    return (await events_json(wire, [(slug, run)])).get((slug, run))


def _memo(raw: bytes) -> Memo:
    """Return a memo; what somebody wrote by hand and is none, or is too deep to be read, is shown as text."""
    try:
        return memo_of(raw)
    except msgspec.DecodeError:
        return Memo(0, "unreadable", data=as_text(raw))


def _open(raw: bytes) -> Open:
    try:
        return open_of(raw)
    except msgspec.DecodeError:
        return Open(0, "unreadable", what=as_text(raw))


def _finished(memo: Memo) -> str:
    if memo.timed_out:
        return "timed_out"
    return "failed" if memo.error else "completed"


def _unfinished(noted: Open) -> str:
    if noted.given_up:
        return "cancelled"
    return "running" if noted.due is None else "retrying" if noted.kind == "run" else "waiting"


def _what(noted: Open) -> Raw | None:
    return None if bytes(noted.what) == b"null" else noted.what


async def steps(wire: Wire, slug: str, run: str) -> list[StepView]:
    """Return a run's steps, finished and open, in the order in which they began."""
    finished, opened = await wire.loads(("HGETALL", keys.steps(slug, run)), ("HGETALL", keys.open_steps(slug, run)))
    has_memo = set(finished[::2])
    views: list[tuple[int, int, StepView]] = []
    for i in range(0, len(finished), 2):
        memo = _memo(finished[i + 1])
        view = StepView(
            finished[i].decode(),
            memo.kind,
            _finished(memo),
            memo.begun,
            since=memo.since or memo.begun,
            attempts=memo.attempts,
            ended=memo.ended,
            what=_what(memo.was) if memo.was is not None else None,
            data=None if memo.error else memo.data,
            error=memo.error,
        )
        views.append((view.since, memo.n, view))
    for i in range(0, len(opened), 2):
        noted = _open(opened[i + 1])
        if opened[i] in has_memo:  # given up, and its value came late
            continue
        state = _unfinished(noted)
        attempts = noted.attempt if state == "retrying" else noted.attempt + 1
        view = StepView(
            opened[i].decode(),
            noted.kind,
            state,
            noted.since,
            since=noted.since,
            attempts=attempts,
            due=noted.due,
            what=_what(noted),
            error=noted.error,
        )
        views.append((noted.since, 1 << 30, view))
    return [view for _, _, view in sorted(views, key=lambda row: row[:2])]
