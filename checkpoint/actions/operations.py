"""Operations: a long action about all runs that match a query, which one can watch and stop.

`cancel` ends runs that have not ended, `rerun` begins a new run for each that has. An operation is made for the runs
there are: those that are queued later, and so its own, it is not about. It is done in steps (stepping.py), by whoever
asked for a second, then by workers. The run that an operation makes of a run always has the same id, so a step that is
taken twice, for its process died, makes none twice; nor is a run cancelled twice.

Who offers one to people shows first how many runs match, with `dry_count`, and then sends that number as `expected`:

    dry = await dry_count(wire, "rerun", query)          # "at least 10,000": dry.count, dry.exact; dry.sample
    made = await operate(wire, "rerun", dry.query, by="ann", expected=dry.count)
    (await operation(wire, made.id)).done                # how far it has come; abort(wire, made.id)

`query` is what `query_of` reads from a form's fields or a link; `dry.query.pairs()` gives these back, with `until`.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, Self

import msgspec

from stepstream.bus.errors import BadRequest, BusError, Conflict, InUse, NotFound, StoreUnavailable
from stepstream.bus.values import codec
from stepstream.bus.values.ids import run_id, ulid
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions import stepping
from stepstream.checkpoint.actions.cancel import AT_ONCE, HAS_ENDED, IS_GONE, cancel, cancel_several
from stepstream.checkpoint.actions.rerun import of_request, rerun_several, run_again_among
from stepstream.checkpoint.actions.stepping import AT_MOST, CLAIM_MS, Stepped, all_of, write
from stepstream.checkpoint.actions.unstarted import Page, Sought, cancel_page, event_in, rank, sources
from stepstream.checkpoint.read.lists.runs import RunLine
from stepstream.checkpoint.read.lists.search import (
    MOST_LOOKED_AT,
    RunQuery,
    functions_asked,
    matches_unstarted,
    search,
    search_names,
)
from stepstream.checkpoint.read.run.find import find
from stepstream.checkpoint.run.record import ENDED, Run

Kind = Literal["cancel", "rerun"]
SAMPLE = 5
"""How many runs a dry count shows."""

MOST_CHOSEN = 1_000
"""How many runs can be named."""
_MOST_REASONS = 10
_LONGEST_REASON = 150

_ACTIVE = ("queued", "running", "waiting")
OF_STATUS: Mapping[Kind, tuple[str, ...]] = {"cancel": _ACTIVE, "rerun": tuple(sorted(ENDED))}
"""Runs of which statuses each kind is about."""
_A_PAGE = 200
"""Runs a step."""
_RERUNS_A_SECOND = 2_200
"""What is run again is work for workers, of which others want some, too."""
_FEWER = 50
"""Runs a step, where they come to the queue."""
_SOURCES = 50
"""How many sources without a run a step goes through."""
_BEGUN = "runs"
"""What is gone through last: the index."""


class Operation(Stepped, frozen=True, kw_only=True):
    """Which runs are cancelled or run again, and how far that has come. Times are server ms."""

    kind: Kind
    query: RunQuery
    by: str = ""
    """Who asked for it, as far as one knows."""
    expected: int | None = None
    """How many runs were confirmed, from a dry count."""
    state: Literal["running", "done", "aborted"] = "running"
    ended: int = 0
    """Since when it is done or aborted; 0: it is not."""
    looked_at: int = 0
    """How many runs were looked at so far."""
    matched: int = 0
    not_evaluated: int = 0
    """Of how many `where` could not be evaluated: for a number in their event, its size, a key. They do not match."""
    done: int = 0
    """How many are cancelled (or will be within seconds, by the worker that has them), or run again."""
    failed: int = 0
    """With how many that did not succeed."""
    failures: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    """How many of these for which reason: at most ten, the others are `other reasons`."""
    runs: tuple[str, ...] = ()
    """Exactly which runs, where people have chosen them: then the query says only which statuses are possible."""
    again: bool = False
    """Whether those are run again, too, that have been before."""
    source: str = ""
    """Where it stands: `runs`, or `<slug> <kind> <name>` of what holds runs that have not begun."""
    cursor: str = ""
    """The place in that."""

    @property
    def over(self) -> int:
        """Since when nothing more is to be done."""
        return self.ended

    def closed_as(self, stands: Self) -> Self:
        """Return it with what the step in hand has done, aborted as it stands; what another has done since, counts."""
        if stands.looked_at > self.looked_at:
            return stands
        return msgspec.structs.replace(self, state=stands.state, ended=stands.ended, claimed=0)


class DryCount(msgspec.Struct):
    """How many runs an operation would be about, and some of them, the newest."""

    kind: Kind
    query: RunQuery
    """With the moment of the count as its end: what is queued later is not meant."""
    count: int
    exact: bool
    """Whether these are all; else there are at least so many: events that no worker has read are not counted."""
    looked_at: int
    sample: list[RunLine]
    again: int = 0
    """How many of these have been run again already, of the newest ten thousand: a rerun leaves them out by itself."""
    not_evaluated: int = 0


class OperationNotFound(NotFound):
    """There is no operation of this id."""

    code = "operation_not_found"

    def __init__(self, id: str) -> None:
        self.id = id
        super().__init__(f"there is no operation {id[:60]!r} (any more)")


async def dry_count(wire: Wire, kind: Kind, query: RunQuery) -> DryCount:
    """Return how many runs match now, acting on none; BadRequest for a query that no such operation can be about."""
    meant = _meant(kind, query, await patiently(wire.moment, 2.0))
    limit = SAMPLE if query.is_indexed else MOST_LOOKED_AT
    found = await search(wire, meant, limit=limit)
    looked_at = found.count if query.is_indexed else found.looked_at
    exact = found.exact and not (kind == "cancel" and "queued" in meant.statuses)
    again = await run_again_among(wire, meant, found.runs) if kind == "rerun" else 0
    return DryCount(kind, meant, found.count, exact, looked_at, found.runs[:SAMPLE], again, found.not_evaluated)


async def operate(
    wire: Wire,
    kind: Kind,
    query: RunQuery,
    *,
    by: str,
    expected: int | None = None,
    seconds: float = 1.0,
    request: str = "",
    again: bool = False,
) -> Operation:
    """Begin an operation; return how far it came within `seconds`: workers go on. A `request` makes one, and no more.

    BadRequest for a query that it cannot be about, InUse when too many are not over, and Conflict when far more runs
    match than were `expected`: over a tenth more. A rerun leaves out what has been run again, unless with `again`.
    """
    if request and (there := await _stored(wire, _id(request, 0))):
        return there[1]
    now = await patiently(wire.moment, 2.0)
    meant = _meant(kind, query, now)
    if expected is not None:
        found = await dry_count(wire, kind, meant)
        if found.count > expected * 1.1:
            told = f"{'' if found.exact else 'at least '}{found.count:,}"
            raise Conflict(f"{told} runs match now, {expected:,} were confirmed; count again, and confirm that")
    made = Operation(id=_id(request, now), kind=kind, query=meant, by=by, created=now, expected=expected, again=again)
    return await _made(wire, made, seconds)


async def operate_on(
    wire: Wire, kind: Kind, runs: Sequence[str], *, by: str, request: str, seconds: float = 1.0, again: bool = False
) -> Operation:
    """Begin an operation on runs that are named; the same `request` makes one, however often it is repeated.

    BadRequest for none, or more than MOST_CHOSEN; InUse when too many operations are not over.
    """
    chosen = tuple(dict.fromkeys(runs))
    if not 0 < len(chosen) <= MOST_CHOSEN:
        raise BadRequest(f"{len(chosen)} runs are named; name 1 to {MOST_CHOSEN}, or filters that they match")
    now = await patiently(wire.moment, 2.0)
    query = RunQuery(statuses=OF_STATUS[kind], until=now)
    made = Operation(
        id=_id(request, now), kind=kind, query=query, by=by, created=now, expected=len(chosen), runs=chosen, again=again
    )
    return await _made(wire, made, seconds)


async def _made(wire: Wire, made: Operation, seconds: float) -> Operation:
    """Store an operation, unless it is there; return how far it came in some time. InUse when there are too many."""
    others = [one for one in await operations(wire) if one.id != made.id]
    if sum(not one.over for one in others) >= AT_MOST:
        raise InUse(f"{AT_MOST} operations are not over yet; wait for one, or abort one")
    await patiently(lambda: wire.call("HSETNX", keys.operations(), made.id, codec.encode(made)), 2.0)
    if seconds > 0:
        await carry_on(wire, made.id, seconds)
    return await operation(wire, made.id)


def _id(request: str, now: int) -> str:
    return run_id("operation", "request", request, 0) if request else ulid(now)


async def operations(wire: Wire) -> list[Operation]:
    """Return the operations there are, newest first; those that were over long ago are removed."""
    return await all_of(wire, keys.operations(), Operation)


async def operation(wire: Wire, id: str) -> Operation:
    """Return one; OperationNotFound when there is none of that id."""
    return (await _stands(wire, id))[1]


async def _stands(wire: Wire, id: str) -> tuple[bytes, Operation]:
    stored = await _stored(wire, id)
    if stored is None:
        raise OperationNotFound(id)
    return stored


async def _stored(wire: Wire, id: str) -> tuple[bytes, Operation] | None:
    raw = await wire.load("HGET", keys.operations(), id, patience=2.0)
    return None if raw is None else (raw, codec.decode_as(raw, Operation))


async def abort(wire: Wire, id: str) -> Operation:
    """Let an operation go no further, but for the step in hand; what it has done stays. One that is over stays so."""
    while True:
        raw, at = await _stands(wire, id)
        if at.over:
            return at
        aborted = msgspec.structs.replace(at, state="aborted", ended=await wire.moment(), claimed=0)
        if await write(wire, keys.operations(), raw, aborted) is None:
            return aborted


async def carry_on(wire: Wire, id: str, seconds: float, claim_ms: int = CLAIM_MS) -> bool:
    """Take steps of an operation for `seconds`, at least one; return whether there is more to do for us."""
    return await stepping.carry_on(wire, keys.operations(), id, Operation, _step, seconds, claim_ms, _least_s)


def _least_s(before: Operation, after: Operation) -> float:
    return (after.done - before.done) / _RERUNS_A_SECOND if after.kind == "rerun" else 0.0


def _meant(kind: Kind, query: RunQuery, now: int) -> RunQuery:
    """Return the query with the statuses that the action is about, and an end: what is queued from now on is not."""
    if not query.pairs():
        raise BadRequest(f"{kind} of every run there is? name at least one filter, as a function, a status or since")
    possible = OF_STATUS[kind]
    for status in query.statuses:
        if status not in possible:
            ended = "has not ended" if kind == "rerun" else "has ended"
            raise BadRequest(
                f"status {status!r}: a run that {ended} is not {_DONE[kind]}; there are {', '.join(possible)}"
            )
    until = now - 1 if query.until is None else min(query.until, now - 1)
    return msgspec.structs.replace(query, statuses=query.statuses or possible, until=until)


_DONE = {"cancel": "cancelled", "rerun": "run again"}


async def _step(wire: Wire, at: Operation) -> Operation:
    """Go through one page of runs; return how far that has come."""
    if at.runs:
        return await _on_chosen(wire, at)
    source, cursor = at.source, at.cursor
    if not source:
        source = _BEGUN if at.kind == "rerun" else await _next(wire, at, "")
    for _ in range(_SOURCES):
        if source == _BEGUN:
            return await _begun(wire, at, cursor)
        slug, _, rest = source.partition(" ")
        page = Page("", 0, 0, 0)
        missed: list[str] = []
        if rest in await sources(wire, slug):  # else its name is used no longer, or the function is gone
            page = await cancel_page(wire, _sought(at, slug, missed), rest, cursor)
        at = _counted(
            at, page.looked_at, page.matched, Counter({HAS_ENDED: page.matched - page.cancelled}), len(missed)
        )
        cursor = page.place
        source = source if cursor else await _next(wire, at, source)
        at = msgspec.structs.replace(at, source=source, cursor=cursor)
        if page.looked_at:
            break
    return at


def _counted(at: Operation, looked_at: int, matched: int, failures: Counter[str], missed: int = 0) -> Operation:
    failed = failures.total()
    reasons = dict(at.failures)
    for why, many in failures.items():
        told = why[:_LONGEST_REASON]
        told = told if told in reasons or len(reasons) < _MOST_REASONS else "other reasons"
        if many:
            reasons[told] = reasons.get(told, 0) + many
    return msgspec.structs.replace(
        at,
        looked_at=at.looked_at + looked_at,
        matched=at.matched + matched,
        not_evaluated=at.not_evaluated + missed,
        done=at.done + matched - failed,
        failed=at.failed + failed,
        failures=reasons,
    )


async def _next(wire: Wire, at: Operation, source: str) -> str:
    """Return what is gone through behind a source: function by function what has not begun, then the index."""
    now_in, _, rest = source.partition(" ")
    for slug in sorted(await functions_asked(wire, at.query)):
        if slug < now_in or "queued" not in at.query.statuses:
            continue
        for one in await sources(wire, slug):
            if slug > now_in or rank(one) > rank(rest):
                return f"{slug} {one}"
    return _BEGUN


def _sought(at: Operation, slug: str, missed: list[str]) -> Sought:
    """Return what is sought of a function; `missed` gets the runs of which `where` could not be evaluated."""

    def is_about(run: Run) -> bool:
        does = matches_unstarted(at.query, run, event_in(run))
        if does is None:
            missed.append(run.id)
        return bool(does)

    before = at.created if at.query.until is None else at.query.until
    return Sought(slug, at.query.since or 0, before, _why(at), is_about)


async def _begun(wire: Wire, at: Operation, cursor: str) -> Operation:
    """Act on a page of what the index has."""
    field = "rerun_of" if at.kind == "rerun" else ""
    found = await search_names(
        wire, at.query, limit=min(_A_PAGE, _FEWER) if field else _A_PAGE, cursor=cursor or None, field=field
    )
    of_each: dict[str, list[str]] = {}
    for run in found.runs:
        # One of our own is behind the end of the query, unless the server's clock was set back.
        if not (run.field and run.id == of_request(run.function, run.field, at.id)):
            of_each.setdefault(run.function, []).append(run.id)
    failures = Counter[str]()
    for slug, runs in of_each.items():
        if at.kind == "cancel":
            failures += (await cancel_several(wire, slug, runs, _why(at))).failures
        else:
            failures += await rerun_several(wire, slug, runs, at.id, again=at.again)
    moved = _counted(at, found.looked_at, sum(map(len, of_each.values())), failures, found.not_evaluated)
    moved = msgspec.structs.replace(moved, source=_BEGUN, cursor=found.cursor or "")
    return moved if found.cursor else msgspec.structs.replace(moved, state="done", ended=await wire.moment())


async def _on_chosen(wire: Wire, at: Operation) -> Operation:
    """Act on the next runs of those that are named."""
    first = int(at.cursor or 0)
    some = at.runs[first : first + AT_ONCE]
    failures = Counter(filter(None, await asyncio.gather(*(_on_one(wire, at, run) for run in some))))
    moved = _counted(at, len(some), len(some), failures)
    moved = msgspec.structs.replace(moved, cursor=str(first + len(some)))
    is_last = first + len(some) >= len(at.runs)
    return msgspec.structs.replace(moved, state="done", ended=await wire.moment()) if is_last else moved


async def _on_one(wire: Wire, at: Operation, run: str) -> str:
    """Act on a run; return why it was not possible, or an empty text."""
    found = await find(wire, run)
    if found is None:
        return IS_GONE
    if found.status not in at.query.statuses:
        return HAS_ENDED if at.kind == "cancel" else "it has not ended"
    try:
        if at.kind == "rerun":
            return next(iter(await rerun_several(wire, found.function, [run], at.id, again=at.again)), "")
        word = await cancel(wire, run, _why(at))
    except StoreUnavailable:
        raise
    except BusError as error:
        return str(error)
    return {"ended": HAS_ENDED, "gone": IS_GONE}.get(word, "")


def _why(at: Operation) -> str:
    return f"cancelled with others by {at.by or 'somebody'} (operation {at.id})"
