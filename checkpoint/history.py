"""History: runs as people see them, and their steps. Reads only; skips members that outlived their run."""

import heapq
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from bus import codec
from bus.errors import ConfigError
from bus.ids import ulid_ms
from bus.wire import keys
from bus.wire.outcomes import ENDED
from bus.wire.streams import fields_of
from bus.wire.wire import Wire
from checkpoint.memo import Failure, Memo, Open, memo_of, open_of

STATUSES = ("queued", "running", "waiting", "completed", "failed", "cancelled", "skipped")


class Run(msgspec.Struct, omit_defaults=True):
    """A run as it is stored; times are Unix ms, `event` and `output` JSON."""

    id: str
    function: str
    status: str
    queued: int = 0
    started: int | None = None
    ended: int | None = None
    turn: int = 1
    attempt: int = 0
    crashes: int = 0
    event: Raw | None = None
    output: Raw | None = None
    error: Failure | None = None
    worker: str = ""
    code: str = ""
    source: str = "event"
    parent: str = ""
    rerun_of: str = ""
    progress: Raw | None = None
    why: str = ""
    """Why it was skipped: rate_limit, singleton, debounced or batched."""
    by: str = ""
    """The run it is part of, or that kept it out."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in ENDED


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


class Page(msgspec.Struct):
    """Runs, newest first, and the cursor of the next page (None: this is the last)."""

    runs: list[Run]
    cursor: str | None = None


def _parse_cursor(cursor: str | None) -> tuple[int, str] | None:
    if not cursor:
        return None
    score, _, run = cursor.partition("-")
    if not score.isdecimal() or ulid_ms(run) is None:
        raise ConfigError(f"cursor {cursor[:60]!r} is not one of ours; leave it out for the first page")
    return int(score), run


async def list_runs(
    wire: Wire,
    slugs: Sequence[str],
    statuses: Sequence[str] = STATUSES,
    *,
    limit: int = 50,
    cursor: str | None = None,
    since: int | None = None,
    until: int | None = None,
) -> Page:
    """Return runs of functions, newest first; `since` and `until` bound when they were queued, Unix ms."""
    before = _parse_cursor(cursor)
    lowest = "-inf" if since is None else str(since)
    bounds = [bound for bound in (before[0] if before else None, until) if bound is not None]
    highest = str(min(bounds)) if bounds else "+inf"
    # A few more than asked for: members of one millisecond that the cursor has passed, and runs that are gone.
    count = limit + 50
    queries = [
        ("ZREVRANGEBYSCORE", keys.runs(slug, status), highest, lowest,
         "WITHSCORES", "LIMIT", 0, count)
        for slug in slugs
        for status in statuses
    ]  # fmt: skip
    replies: list[Any] = await wire.loads(*queries) if queries else []
    owners = [slug for slug in slugs for _ in statuses]
    members = [
        [(int(float(row[i + 1])), row[i].decode(), slug) for i in range(0, len(row), 2)]
        for slug, row in zip(owners, replies, strict=True)
    ]
    merged = heapq.merge(*(sorted(rows, reverse=True) for rows in members), reverse=True)
    wanted = [row for row in merged if before is None or row[:2] < before]
    page: list[Run] = []
    at = 0
    while at < len(wanted) and len(page) < limit:
        chunk = wanted[at : at + limit]
        at += len(chunk)
        hashes = await wire.loads(*(("HGETALL", keys.run(slug, run)) for _, run, slug in chunk))
        page += [run_of(run, slug, flat) for (_, run, slug), flat in zip(chunk, hashes, strict=True) if flat]
    more = len(page) > limit or at < len(wanted)
    page = page[:limit]
    last = page[-1] if page and more else None
    return Page(page, f"{last.queued}-{last.id}" if last else None)


async def counts(wire: Wire, slugs: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return how many runs each function has of each status."""
    rows: list[int] = (
        await wire.loads(*(("ZCARD", keys.runs(s, status)) for s in slugs for status in STATUSES)) if slugs else []
    )
    found = iter(rows)
    return {slug: {status: next(found) for status in STATUSES} for slug in slugs}


def stored_json(raw: bytes | None) -> Raw | None:
    """Return stored JSON; what somebody wrote by hand and is none, or is too deep to be read, is shown as text."""
    if raw is None:
        return None
    try:
        codec.decode(raw)
    except msgspec.DecodeError:
        return _as_text(raw)
    return Raw(raw)


def run_of(run: str, slug: str, flat: Sequence[bytes]) -> Run:
    """Return a run from its hash, a flat list of names and values."""
    fields = {name.decode(): value for name, value in fields_of(flat).items()}

    def number(name: str) -> int | None:
        return int(fields[name]) if fields.get(name) else None

    error = fields.get("error")
    return Run(
        id=run,
        function=slug,
        status=fields.get("status", b"").decode(),
        queued=number("queued") or ulid_ms(run) or 0,
        started=number("started"),
        ended=number("ended"),
        turn=number("turn") or 1,
        attempt=number("attempt") or 0,
        crashes=number("crashes") or 0,
        event=stored_json(fields.get("event")),
        output=stored_json(fields.get("output")),
        error=codec.decode_as(error, Failure) if error else None,
        worker=fields.get("worker", b"").decode(),
        code=fields.get("code", b"").decode(),
        source=fields.get("source", b"event").decode(),
        parent=fields.get("parent", b"").decode(),
        rerun_of=fields.get("rerun_of", b"").decode(),
        progress=stored_json(fields.get("progress")),
        why=fields.get("why", b"").decode(),
        by=fields.get("by", b"").decode(),
    )


async def event_json(wire: Wire, slug: str, run: str) -> dict[str, Any] | None:
    """Return a run's own event as plain values; None when the run is gone or its event makes no sense."""
    raw = await wire.load("HGET", keys.run(slug, run), "event")
    try:
        return codec.decode_as(raw, dict[str, Any]) if raw is not None else None
    except msgspec.MsgspecError:
        return None


def _memo(raw: bytes) -> Memo:
    """Return a memo; what somebody wrote by hand and is none, or is too deep to be read, is shown as text."""
    try:
        return memo_of(raw)
    except msgspec.DecodeError:
        return Memo(0, "unreadable", data=_as_text(raw))


def _open(raw: bytes) -> Open:
    try:
        return open_of(raw)
    except msgspec.DecodeError:
        return Open(0, "unreadable", what=_as_text(raw))


def _as_text(raw: bytes) -> Raw:
    return Raw(codec.encode(codec.text(raw)))


async def steps(wire: Wire, slug: str, run: str) -> list[StepView]:
    """Return a run's steps, finished and open, in the order in which they began."""
    finished, opened = await wire.loads(("HGETALL", keys.steps(slug, run)), ("HGETALL", keys.open_steps(slug, run)))
    views: list[tuple[int, int, StepView]] = []
    for i in range(0, len(finished), 2):
        memo = _memo(finished[i + 1])
        view = StepView(
            finished[i].decode(),
            memo.kind,
            "failed" if memo.error else "completed",
            memo.started,
            since=memo.since or memo.started,
            attempts=memo.attempts,
            ended=memo.ended,
            data=None if memo.error else memo.data,
            error=memo.error,
        )
        views.append((view.since, memo.n, view))
    for i in range(0, len(opened), 2):
        noted = _open(opened[i + 1])
        state = "running" if noted.due is None else "retrying" if noted.kind == "run" else "waiting"
        attempts = noted.attempt if state == "retrying" else noted.attempt + 1
        view = StepView(
            opened[i].decode(),
            noted.kind,
            state,
            noted.since,
            since=noted.since,
            attempts=attempts,
            due=noted.due,
            what=None if bytes(noted.what) == b"null" else noted.what,
            error=noted.error,
        )
        views.append((noted.since, 1 << 30, view))
    return [view for _, _, view in sorted(views, key=lambda row: row[:2])]
