"""Steps: the steps of a run as people see them, finished and open. Reads only."""

from typing import Any

import msgspec
from msgspec import Raw

from stepstream.bus.encryption.sealing import opened_raw
from stepstream.bus.values import codec
from stepstream.bus.values.dialect import as_written
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.memo import Failure, Memo, Open, WaitsFor, memo_of, open_of
from stepstream.checkpoint.run.record import as_text


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

    def opened(self) -> "StepView":
        """Return it with what it returned as that was; CannotOpen where this process cannot open it."""
        return msgspec.structs.replace(self, data=self.data and opened_raw(self.data))

    @property
    def result(self) -> Any:
        """What it returned, as plain values; None when it has not. CannotOpen where this process cannot open it."""
        return None if self.data is None else codec.decode(opened_raw(self.data))

    @property
    def waits_for(self) -> WaitsFor | None:
        """What it waits or waited for; None when it does not wait, or that cannot be decoded."""
        try:
            return codec.decode_as(self.what, WaitsFor) if self.what is not None else None
        except msgspec.DecodeError:
            return None


def in_words_of(what: WaitsFor, *, still: bool) -> str:
    """Return in words what a step waits for, or has waited for."""
    waits = "waits" if still else "waited"
    if what.event:
        more = f" with the same {what.match}" if what.match else f" where {as_written(what.if_)}" if what.if_ else ""
        return f"{waits} for {what.event}{more}"
    if what.signal:
        return f"{waits} for signal {what.signal}"
    return f"{'waits for' if still else 'called'} {what.function}"


def _memo(raw: bytes) -> Memo:
    """Return a memo; one that cannot be read (written by hand, or nested too deep) is shown as text."""
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
    if noted.kind == "run" and noted.due is not None:
        return "retrying"
    # A signal that comes before the name is the step's own is not kept; an event that does is.
    is_reached = noted.due is not None and (noted.kind != "signal" or noted.armed)
    return "waiting" if is_reached else "running"


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
            codec.text(finished[i]),
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
        if opened[i] in has_memo:  # it was given up, and its value came later
            continue
        view = _view_of_open(opened[i], opened[i + 1])
        views.append((view.since, 1 << 30, view))
    return [view for _, _, view in sorted(views, key=lambda row: row[:2])]


async def open_steps(wire: Wire, slug: str, run: str) -> list[StepView]:
    """Return the steps of a run that are not finished, in the order in which they began; none that was given up."""
    opened = await wire.load("HGETALL", keys.open_steps(slug, run))
    views = [_view_of_open(opened[i], opened[i + 1]) for i in range(0, len(opened), 2)]
    return sorted((view for view in views if view.state != "cancelled"), key=lambda view: view.since)


def _view_of_open(step: bytes, raw: bytes) -> StepView:
    noted = _open(raw)
    state = _unfinished(noted)
    return StepView(
        codec.text(step),
        noted.kind,
        state,
        noted.since,
        since=noted.since,
        attempts=noted.attempt if state == "retrying" else noted.attempt + 1,
        due=noted.due,
        what=_what(noted),
        error=noted.error,
    )
