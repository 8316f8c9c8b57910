"""Wait: for an event, or for a signal, durably.

The wait is noted, then armed in the event's own slot, then the run looks back: an event that came after the run began
and before the wait was there is not missed. A timeout decides nothing by itself: it looks once more, up
to its deadline, before it says None.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
from msgspec import Raw

from stepstream.bus.errors import ConfigError, EventInvalid, NonRetriable, StepFailed
from stepstream.bus.event import RawEvent, event_name_of, invalid
from stepstream.bus.limits.cancel_on import PATH
from stepstream.bus.values import codec
from stepstream.bus.values.expression import compiled
from stepstream.bus.values.ids import ulid_ms
from stepstream.bus.values.matching import answers, value_at, why_not
from stepstream.bus.values.schemas import schema_of
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.retry import patiently
from stepstream.checkpoint.run.memo import Failure, Memo, WaitsFor
from stepstream.checkpoint.waits.event_waits import MOST_BY_EXPRESSION, Wait, arm, disarm, look_back
from stepstream.checkpoint.waits.names import Holder
from stepstream.checkpoint.waits.order import added_at, begun_before
from stepstream.checkpoint.waits.signals import check_signal, give_signal, take_signal
from stepstream.consumers.turn.steps.waiting import waiting
from stepstream.consumers.turn.turn import Turn

LONGEST_MS = 366 * 86_400_000
_LARGEST_SCHEMA = 16_384
"""A type whose schema is larger, bytes, is checked only by who waits."""


async def wait_for_event(
    turn: Turn,
    step: str,
    event: str | type[Any],
    match: str | None,
    if_: str | None,
    timeout_ms: int,
    *,
    looks_back: bool = True,
) -> Any:
    """Return the event that answers, as Event[T]; None when none has come in time.

    One that came after the run began and before this wait answers too, unless `looks_back` is false. One whose data
    does not fit the type is told in the run's log, and the wait goes on, as the step `<id>~1`, to the
    same deadline. That step is the record of it: in a replay the first event stays ignored, whatever fits by then.
    """
    name, kind = (event, None) if isinstance(event, str) else (event_name_of(event), event)

    async def wait(step: str, due: str) -> tuple[Memo, str]:
        value = wanted(turn.event, step, name, match, if_)
        return await _wait(
            turn,
            Wait(name, turn.owned.slug, turn.owned.run, step, 0, match or "", value, if_ or ""),
            due,
            looks_back=looks_back,
        )

    def read(step: str, data: Raw) -> Any:
        found = codec.decode_as(data, RawEvent)
        try:
            return found.typed(kind)
        except EventInvalid as error:
            raise DoesNotFit(StepFailed(step, "event_invalid", str(error)), f"{name} {found.id}", error) from None

    return await _until_it_fits(turn, step, "event", f"+{timeout_ms}", wait, read)


class DoesNotFit(Exception):
    """What has come for a wait is not of the type that is waited for: `what`, in words, and the error that says why.

    `failed` is raised instead where the run has gone on with it under another type.
    """

    def __init__(self, failed: StepFailed, what: str, error: EventInvalid) -> None:
        self.failed = failed
        self.told = f"ignored {what}, and waits on: {error}"
        super().__init__(self.told)


async def _until_it_fits(
    turn: Turn,
    step: str,
    kind: str,
    due: str,
    wait: Callable[[str, str], Awaitable[tuple[Memo, str]]],
    read: Callable[[str, Raw], Any],
) -> Any:
    """Wait, and wait on as another step while what comes does not fit; return what `read` makes of what does.

    `wait` takes a step and until when (as `note_open` takes it), and returns the memo and when the wait is over.
    """
    first, ignored = step, 0
    while True:
        turn.awaited(step)
        memo = await turn.replayed(step, kind)
        is_new = memo is None
        if memo is None:
            memo, due = await wait(step, due)
            if turn.is_branched:
                await turn.in_order(memo.n)
        elif memo.was is not None and memo.was.due is not None:
            due = str(memo.was.due)
        if memo.error is not None:
            raise StepFailed(step, memo.error.name, memo.error.message)
        if bytes(memo.data) == b"null":
            return None
        ignored += 1
        following = f"{first}~{ignored}"
        if following not in turn.state.memos and following not in turn.state.open:
            try:
                return read(step, memo.data)
            except DoesNotFit as error:
                if not is_new and _has_gone_on(turn, memo):  # it fitted then: the type has changed
                    raise error.failed from None
                turn.log.write("bus", error.told, step=first, level="warning")
        step = following
        turn.state.uncalled.discard(step)


def _has_gone_on(turn: Turn, memo: Memo) -> bool:
    """Whether the run has begun a step since it got a memo: then it took what is in it."""
    begun = [one.begun for one in turn.state.memos.values() if one.n > memo.n]
    begun += [one.since for one in turn.state.open.values()]
    return any(moment >= memo.ended for moment in begun)


def wanted(own: RawEvent, step: str, name: str, match: str | None, if_: str | None) -> bytes:
    """Refuse what could never be answered; return the value that answers have at `match`, that of the run's event."""
    if not name or "*" in name:
        raise NonRetriable(f"step '{step}' waits for {name!r}: give one event's whole name")
    if match is not None and if_ is not None:
        raise NonRetriable(f"step '{step}' has match and if_; give one of them")
    if if_ is not None:
        try:
            compiled(if_, f"step '{step}', if_", other="async")
        except ConfigError as error:
            raise NonRetriable(str(error)) from None
    if match is None:
        return b""
    if not PATH.fullmatch(match):
        raise NonRetriable(f"step '{step}': match {match!r} is no path; write for example match='data.orderId'")
    value = value_at(match, own.plain())
    if value is None:
        raise NonRetriable(
            f"step '{step}': match '{match}', but the run's own event has nothing there, so none would ever be equal"
        )
    return value


async def _wait(turn: Turn, wait: Wait, due: str, *, looks_back: bool) -> tuple[Memo, str]:
    """Wait until `due` (as `note_open` takes it); return the memo, and when the wait is over, server ms."""
    step, name = wait.step, wait.name
    what = codec.encode(WaitsFor(event=name, match=wait.path, if_=wait.if_))

    async def give_up() -> None:
        await disarm(turn.wire, name, [wait])

    async with waiting(turn, step, "event", what, give_up):
        noted = await turn.noted(step, "event", due, what)
        wait = msgspec.structs.replace(wait, deadline=noted.due)
        over = str(noted.due)
        since = await _begun(turn) if looks_back else noted.since
        if not turn.is_armed(step):
            with turn.activity:
                added = await arm(turn.wire, wait)
                if added is None:
                    full = Failure(
                        "waits_full", f"{MOST_BY_EXPRESSION} runs wait for '{name}' by expression; use match"
                    )
                    return await _recorded(turn, step, error=full), over
                turn.services.expect_event(name)
                found = await _came(turn, wait, since, added.behind)
                if found is not None:
                    return await _take(turn, step, wait, found), over
            turn.recorder.tell_armed(step, "event", noted.due, what)
        memo = await turn.wait_until(step, noted.due, noted.now)
        if memo is not None:
            return memo, over
        with turn.activity:
            found = await _came(turn, wait, since, f"{wait.deadline}-{2**64 - 1}")
            # While the clock is behind the last entry, because it was set back, new ones take that one's time.
            found = found or await _came(turn, wait, turn.state.server_now() + 1)
            return await _take(turn, step, wait, found), over


async def _came(turn: Turn, wait: Wait, since: int, until: str = "+") -> tuple[str, RawEvent] | None:
    """Return the earliest event that answers and that no other wait of this run has taken."""
    taken = {memo.entry for memo in turn.state.memos.values() if memo.entry}
    own, run = turn.event.plain(), (turn.owned.slug, turn.owned.run)
    async for entry, event in look_back(turn.wire, wait.name, since, until):
        if f"{wait.name}|{entry}" in taken or await added_at(turn.wire, entry, [wait.deadline]) > wait.deadline:
            continue
        try:
            is_meant = answers(own, event.plain(), wait.path, wait.if_)
        except ValueError:  # added by hand, no JSON
            continue
        if wait.if_ and not is_meant and (why := why_not(own, event.plain(), wait.if_)) is not None:
            words = f"could not evaluate {wait.if_} for {wait.name} {event.id}, and waits on: {why}"
            turn.log.write("bus", words, step=wait.step, level="warning")
        if is_meant and await begun_before(turn.wire, wait.name, entry, [run]):
            return entry, event
    return None


async def _begun(turn: Turn) -> int:
    """Return since when the run is there, ms: the time in its id, unless the clock was set back behind that."""
    made, now = ulid_ms(turn.owned.run) or 0, turn.state.server_now()
    if made <= now:
        return made
    started = await patiently(lambda: turn.wire.call("HGET", keys.run(turn.owned.slug, turn.owned.run), "started"))
    return min(now, int(started or now))


async def _take(turn: Turn, step: str, wait: Wait, found: tuple[str, RawEvent] | None) -> Memo:
    """Record what was found, or that nothing was; what a courier has recorded meanwhile stands."""
    if found is None:
        memo = await _recorded(turn, step, data=b"null", timed_out=True)
    else:
        entry, event = found
        memo = await _recorded(turn, step, data=codec.encode(event), entry=f"{wait.name}|{entry}")
    await disarm(turn.wire, wait.name, [wait])
    return memo


async def _recorded(
    turn: Turn,
    step: str,
    *,
    data: bytes | None = None,
    error: Failure | None = None,
    entry: str = "",
    kind: str = "event",
    timed_out: bool = False,
) -> Memo:
    stands = await turn.recorder.save(step, kind, data=data, error=error, opened=True, entry=entry, timed_out=timed_out)
    return stands or turn.state.keep(step, kind, data, error, entry)


async def wait_for_signal(
    turn: Turn,
    step: str,
    name: str,
    wanted: Any,
    timeout_ms: int,
    *,
    replaces: bool = False,
    takes: bytes | None = None,
) -> Any:
    """Return what was sent, as the wanted type; None when nothing was in time.

    StepFailed when another run waits for the name, unless this one `replaces` it. What is not of the type is refused
    where it is sent, by the schema that the wait has noted (`takes`, where the type is an application's). What gets
    through is told in the run's log, and the wait goes on, as that for an event does.
    """
    schema = taken(wanted) if takes is None else takes

    async def wait(step: str, due: str) -> tuple[Memo, str]:
        try:
            check_signal(name)
        except EventInvalid as error:
            raise NonRetriable(f"step '{step}': {error}") from None
        return await _wait_signal(turn, step, name, due, schema, replaces=replaces)

    def read(step: str, data: Raw) -> Any:
        return signalled_as(step, name, data, wanted)

    return await _until_it_fits(turn, step, "signal", f"+{timeout_ms}", wait, read)


def taken(kind: Any) -> bytes:
    """Return the JSON Schema of what a signal must bring that is waited for as a type; null when anything will do."""
    if kind is Any or kind is Raw:
        return b"null"
    schema = schema_of(kind)
    return schema.text if schema.exact and len(schema.text) <= _LARGEST_SCHEMA else b"null"


def signalled_as(step: str, name: str, data: Raw, wanted: Any) -> Any:
    """Return what a signal brought as the type that is waited for; DoesNotFit when it is not of that."""
    try:
        return codec.decode_as(data, wanted)
    except msgspec.ValidationError as error:
        wrong = invalid(error, "data")
        raise DoesNotFit(StepFailed(step, "signal_invalid", str(wrong)), f"signal {name}", wrong) from None


async def _wait_signal(turn: Turn, step: str, name: str, due: str, takes: bytes, *, replaces: bool) -> tuple[Memo, str]:
    what = codec.encode(WaitsFor(signal=name, takes=Raw(takes)))
    waiter = Holder(turn.owned.slug, turn.owned.run, step, turn.owned.fence)
    async with waiting(turn, step, "signal", what, partial(give_signal, turn.wire, name, waiter)):
        known = turn.state.open.get(step)
        noted = await turn.noted(step, "signal", due, what)
        over = str(noted.due)
        if not turn.is_armed(step):
            with turn.activity:
                left_ms = noted.due - noted.now
                other = await take_signal(turn.wire, name, waiter, left_ms, replaces=replaces)
                if other is not None:
                    error = Failure("signal_conflict", f"run {other.run} waits for signal '{name}' already")
                    return await _recorded(turn, step, error=error, kind="signal"), over
            turn.recorder.tell_armed(step, "signal", noted.due, what)
        elif known is not None and bytes(known.what) != what:  # a deploy has changed the type: senders are to know
            turn.recorder.tell_armed(step, "signal", noted.due, what)
        memo = await turn.wait_until(step, noted.due, noted.now)
        if memo is not None:
            return memo, over
        with turn.activity:
            memo = await _recorded(turn, step, data=b"null", kind="signal", timed_out=True)
            await give_signal(turn.wire, name, waiter)
            return memo, over
