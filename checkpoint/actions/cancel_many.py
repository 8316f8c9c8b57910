"""Cancel many: the runs of a function that were made in a time, and whose event an expression is true of.

It is the bulk action of SDKs, told in their words; `operations` is that of people, by all that runs are searched by.
Both take the same steps (stepping.py), from what has not begun (unstarted.py) to the runs that have.
"""

import contextlib

import msgspec

from stepstream.bus.encryption.sealing import CannotOpen
from stepstream.bus.errors import BadRequest, ConfigError, InUse, NotFound
from stepstream.bus.trust.redaction import Redaction, redaction_of
from stepstream.bus.values import codec, dialect
from stepstream.bus.values.expression import Expression, compiled
from stepstream.bus.values.ids import ulid, ulid_ms
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions import stepping
from stepstream.checkpoint.actions.cancel import AT_ONCE, cancel_several
from stepstream.checkpoint.actions.stepping import AT_MOST, Stepped, all_of
from stepstream.checkpoint.actions.unstarted import Page, Sought, cancel_page, event_in, rank, sources, those_about
from stepstream.checkpoint.read.lists.runs import list_runs, whole
from stepstream.checkpoint.registry import functions
from stepstream.checkpoint.run.record import Run

_ACTIVE = ("queued", "running", "waiting")
_BEGUN = "runs "
"""What is gone through last: the runs that have begun."""


class Cancellation(Stepped, frozen=True, kw_only=True, omit_defaults=True):
    """Which runs are cancelled, those made from `after` to `before`, and how far that has come. Times are server ms."""

    app: str
    function: str
    """The function's slug."""
    before: int
    after: int = 0
    if_: str = msgspec.field(default="", name="if")
    hidden: tuple[str, ...] = ()
    """The rules of what the one who asked does not see of data: `if_` does not see it either."""
    done: int = 0
    """When it was done; 0: not yet."""
    looked_at: int = 0
    """How many runs were looked at so far."""
    cancelled: int = 0
    """How many of them are cancelled, or will be within seconds by the worker that has them."""
    not_evaluated: int = 0
    """Of how many of them `if_` could not be evaluated: for a number in their event, or its size, or its codec.

    They go on.
    """
    source: str = ""
    """Where it stands: what it goes through, and the place in that."""
    place: str = ""

    @property
    def over(self) -> int:
        """When it was done."""
        return self.done


class _Asking:
    """Asks in one step which runs are meant, and counts those of which the expression cannot be evaluated."""

    def __init__(self, at: Cancellation) -> None:
        self._at = at
        self._condition: Expression | None = None
        with contextlib.suppress(ConfigError):  # stored by a version that did not refuse it: true of nothing
            self._condition = compiled(dialect.of_sdk(at.if_), "if") if at.if_ else None
        self.not_evaluated = 0

    def is_about(self, run: Run) -> bool:
        """Whether it is about a run, by the time in its id and by its event."""
        at = self._at
        if not at.after <= (ulid_ms(run.id) or 0) <= at.before:
            return False
        if not at.if_:
            return True
        event = event_in(run)
        try:
            if event is None:
                return False
            plain = redaction_of(at.hidden).plain(event.plain()) if at.hidden else event.plain()
        except msgspec.MsgspecError:  # an event that cannot be read
            return False
        except CannotOpen:
            self.not_evaluated += 1
            return False
        if self._condition is not None and self._condition.matches(plain):
            return True
        self.not_evaluated += self._condition is None or self._condition.why_not(plain) is not None
        return False


class CancellationNotFound(NotFound):
    """There is no bulk cancellation of this id."""

    code = "cancellation_not_found"

    def __init__(self, id: str) -> None:
        self.id = id
        super().__init__(f"there is no cancellation {id[:60]!r} (any more)")


async def cancellations(wire: Wire) -> list[Cancellation]:
    """Return the bulk cancellations there are, newest first; those that were done long ago are removed."""
    return await all_of(wire, keys.cancellations(), Cancellation)


async def cancellation(wire: Wire, id: str) -> Cancellation:
    """Return one; CancellationNotFound when there is none of that id."""
    raw = await wire.load("HGET", keys.cancellations(), id, patience=2.0)
    if raw is None:
        raise CancellationNotFound(id)
    return codec.decode_as(raw, Cancellation)


async def cancel_many(
    wire: Wire,
    app: str,
    slug: str,
    *,
    before: int,
    after: int = 0,
    if_: str = "",
    seconds: float = 1.0,
    hidden: Redaction | None = None,
) -> Cancellation:
    """Cancel runs of a function made between two times; return how far that came within `seconds`: workers go on.

    `hidden` is what the one who asks does not see of data: the expression does not see it either.

    BadRequest for an expression that is not CEL, or a time to come; InUse when too many are not done.
    """
    now = await patiently(wire.moment, 2.0)
    if before > now or after > before:
        raise BadRequest(
            f"started_before must lie in the past, behind started_after; got {before} and {after} (Unix ms)"
        )
    if if_:
        try:
            compiled(dialect.of_sdk(if_), "if")
        except ConfigError as error:
            raise BadRequest(str(error)) from None
    if sum(not one.done for one in await cancellations(wire)) >= AT_MOST:
        raise InUse(f"{AT_MOST} cancellations are not done yet; wait for one, or delete one")
    unseen = hidden.rules if hidden is not None and if_ else ()
    made = Cancellation(
        id=ulid(now), app=app, function=slug, before=before, after=after, if_=if_, hidden=unseen, created=now
    )
    await patiently(lambda: wire.call("HSET", keys.cancellations(), made.id, codec.encode(made)), 2.0)
    await carry_on(wire, made.id, seconds)
    return await cancellation(wire, made.id)


async def end_cancellation(wire: Wire, id: str) -> None:
    """Let a bulk cancellation go no further, and forget it. What it has cancelled stays so."""
    if not await patiently(lambda: wire.call("HDEL", keys.cancellations(), id), 2.0):
        raise CancellationNotFound(id)


async def carry_on(wire: Wire, id: str, seconds: float) -> bool:
    """Take steps of a bulk cancellation for `seconds`, at least one; return whether there is more to do for us."""
    return await stepping.carry_on(wire, keys.cancellations(), id, Cancellation, _step, seconds)


async def _step(wire: Wire, at: Cancellation) -> Cancellation:
    """Go through one page; return how far that has come."""
    known = await functions(wire, [at.function])
    ordered = [*await sources(wire, at.function), _BEGUN] if known else []
    source = at.source or (ordered[0] if ordered else "")
    asking = _Asking(at)
    page = Page("", 0, 0, 0)
    if source == _BEGUN:
        page = await _runs(wire, at, asking)
    elif source in ordered:  # else its name is used no longer, or the function is gone
        sought = Sought(at.function, at.after, at.before, _why(at), asking.is_about)
        page = await cancel_page(wire, sought, source, at.place)
    rest = [] if source == _BEGUN else [one for one in ordered if one == _BEGUN or rank(one) > rank(source)]
    moved = msgspec.structs.replace(
        at,
        source=source if page.place else (rest[0] if rest else source),
        place=page.place,
        looked_at=at.looked_at + page.looked_at,
        cancelled=at.cancelled + page.cancelled,
        not_evaluated=at.not_evaluated + asking.not_evaluated,
    )
    return moved if page.place or rest else msgspec.structs.replace(moved, done=await wire.moment())


async def _runs(wire: Wire, at: Cancellation, asking: _Asking) -> Page:
    """Go through the runs that have begun."""
    page = await list_runs(
        wire, [at.function], _ACTIVE, limit=AT_ONCE, cursor=at.place, since=at.after, until=at.before
    )
    listed: list[Run] = (
        list(await whole(wire, page.runs)) if at.if_ else [Run(id=one.id, function=at.function) for one in page.runs]
    )
    meant = [run.id for run in await those_about(asking.is_about, listed)]
    done = await cancel_several(wire, at.function, meant, _why(at))
    return Page(page.cursor or "", len(page.runs), len(meant), done.cancelled)


def _why(at: Cancellation) -> str:
    return f"cancelled with others ({at.id})"
