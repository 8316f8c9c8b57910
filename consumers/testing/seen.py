"""Seen: what came of an application under test. A failed look says what there is instead."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn, TypeVar, overload

from msgspec import Raw

from stepstream.bus.errors import EventInvalid
from stepstream.bus.event import Event, RawEvent, event_name_of
from stepstream.bus.function import Function
from stepstream.bus.values import codec
from stepstream.bus.values.durations import in_words
from stepstream.bus.wire import keys
from stepstream.bus.wire.streams import event_of, fields_of
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.read.lists.runs import list_runs, whole
from stepstream.checkpoint.read.run.bringing import run_whole, steps_whole
from stepstream.checkpoint.read.run.find import find
from stepstream.checkpoint.read.run.steps import StepView, steps
from stepstream.checkpoint.run.record import Run

R = TypeVar("R")
T = TypeVar("T")
Which = Run | Function[Any, Any] | str | None
"""A run: itself, its id, the id of the event that started it, its function or that one's slug; None: the only one."""
_MOST_TOLD = 20


class Steps(dict[str, StepView]):
    """The steps of one run by id, in the order in which they began. One that is not there is an AssertionError."""

    def __init__(self, run: Run, views: Iterable[StepView]) -> None:
        super().__init__((view.id, view) for view in views)
        self.run = run

    def __missing__(self, step: str) -> NoReturn:
        raise AssertionError(
            f"no step '{step}' in {_told(self.run)}{_near(step, self)}; steps: {told_steps(self.values())}"
        )


class Seen:
    """What a test may ask of the application: its runs, their steps and outputs, the events there are."""

    _wire: Wire

    def __init__(self, functions: Sequence[Function[Any, Any]]) -> None:
        self._functions = functions

    @property
    def now(self) -> int:
        """The clock, Unix ms."""
        raise NotImplementedError

    # -- runs -------------------------------------------------------------------------------------------------------

    async def runs(self, which: Function[Any, Any] | str | None = None) -> list[Run]:
        """Return the runs, oldest first: all, those of a function, or those of the event with this id."""
        slugs = [function.slug for function in self._functions]
        slug = which.slug if isinstance(which, Function) else which if which in slugs else None
        if isinstance(which, Function) and which.slug not in slugs:
            raise AssertionError(f"function '{which.slug}' is not of this harness{_near(which.slug, slugs)}")
        page = await list_runs(self._wire, slugs if slug is None else [slug], limit=1_000)
        found = [await self._read(run) for run in await whole(self._wire, page.runs)][::-1]
        if which is None or slug is not None:
            return found
        of_event = [run for run in found if which in _event_ids(run)]
        if not of_event:
            there = "; ".join(map(_told, found[:_MOST_TOLD])) or "none"
            raise AssertionError(f"there is no run {which}, nor one of an event of that id; there are: {there}")
        return of_event

    async def run(self, which: Which = None, of: Function[Any, Any] | None = None) -> Run:
        """Return one run: by its id, by the id of its event (`of` which function, if it started several), by its
        function, or the only one there is.
        """
        if isinstance(which, Run):
            which = which.id
        if isinstance(which, str) and (found := await find(self._wire, which)) is not None:
            return await self._read(found)
        runs = await self.runs(which)
        chosen = [run for run in runs if of is None or run.function == of.slug]
        if len(chosen) == 1:
            return chosen[0]
        what = which.slug if isinstance(which, Function) else which
        name = f" of {what}" if what else ""
        if not runs:
            waiting = f"; {self._unheard()}" if which is None else ""
            raise AssertionError(f"there is no run{name}{waiting}")
        several = "; ".join(map(_told, (chosen or runs)[:_MOST_TOLD]))
        if not chosen:
            assert of is not None
            raise AssertionError(f"there is no run{name} of {of.slug}; there are: {several}")
        raise AssertionError(
            f"there are {len(chosen)} runs{name}: {several}. Say which: by its function, by its id or the id of its "
            "event, which send returns, or go through `await bus.runs()`"
        )

    async def _read(self, run: Run) -> Run:
        return (await run_whole(self._wire, run)).opened()

    def _unheard(self) -> str:
        heard = sorted({trigger.name for function in self._functions for trigger in function.triggers})
        return f"the functions listen to {', '.join(heard) or 'no event'}"

    @overload
    async def output(self, which: Function[Any, R]) -> R: ...
    @overload
    async def output(self, which: Run | str | None, of: Function[Any, R]) -> R: ...
    @overload
    async def output(self, which: Run | str | None = None) -> Any: ...
    async def output(self, which: Which = None, of: Function[Any, Any] | None = None) -> Any:
        """Return what a run returned, as its function's type where a function is given, else as plain values.

        AssertionError, with its error and its steps, when it has not completed.
        """
        found = await self.run(which, of)
        if found.status != "completed":
            raise AssertionError(await self._why_not_completed(found))
        given = of or (which if isinstance(which, Function) else None)
        raw = found.output if found.output is not None else Raw(b"null")
        return codec.decode(raw) if given is None else codec.decode_as(raw, codec.return_type(given.handler))

    async def _why_not_completed(self, run: Run) -> str:
        error = f": {run.error.told()}" if run.error else ""
        views = list((await self.steps(run)).values())
        dues = [view.due for view in views if view.due is not None]
        wait = ""
        if run.status == "waiting" and dues:
            left = in_words(max(0, min(dues) - self.now))
            written = left.replace(" ", "").replace("min", "m")
            wait = f"; the first is due in {left}: await bus.advance('{written}'), or bus.finish()"
        return f"{_told(run)}{error}; steps: {told_steps(views)}{wait}"

    async def steps(self, which: Which = None, of: Function[Any, Any] | None = None) -> Steps:
        """Return a run's steps by id, in the order in which they began; `run` says how it is named."""
        found = await self.run(which, of)
        views = await steps_whole(self._wire, await steps(self._wire, found.function, found.id))
        return Steps(found, [one.opened() for one in views])

    # -- events -----------------------------------------------------------------------------------------------------

    @overload
    async def events(self, which: type[T]) -> list[Event[T]]: ...
    @overload
    async def events(self, which: str) -> list[Event[Any]]: ...
    async def events(self, which: type[Any] | str) -> list[Event[Any]]:
        """Return the events of a type, or under a name, oldest first: those the test sent, and those of its runs."""
        name, kind = (which, None) if isinstance(which, str) else (event_name_of(which), which)
        if not name:
            raise AssertionError(f"{which!r} has no event name; declare it with name='…' or @event('…')")
        rows = await self._wire.call("XRANGE", keys.events(name), "-", "+")
        return [event_of(name, entry.decode(), fields_of(flat)).typed(kind) for entry, flat in rows]

    @overload
    async def event(self, which: type[T]) -> Event[T]: ...
    @overload
    async def event(self, which: str) -> Event[Any]: ...
    async def event(self, which: type[Any] | str) -> Event[Any]:
        """Return the only event of a type, or under a name; AssertionError, with those there are, unless it is one."""
        found: list[Event[Any]] = await self.events(which)
        if len(found) == 1:
            return found[0]
        name = which if isinstance(which, str) else event_name_of(which)
        if found:
            raise AssertionError(f"there are {len(found)} events {name}: {[event.data for event in found]}")
        there = [codec.text(other) for other in await self._wire.call("ZRANGE", keys.event_names(), 0, -1)]
        sent = f"sent were {', '.join(sorted(there))}" if there else "nothing was sent"
        raise AssertionError(f"no event {name} was sent{_near(name, there)}; {sent}")


def told_steps(views: Iterable[StepView]) -> str:
    """Return steps as a failed assertion tells them: their ids, states and errors."""
    told = [
        f"{view.id} {view.state}"
        + (f" ({view.attempts} attempts)" if view.attempts > 1 else "")
        + (f": {view.error.told()}" if view.error else "")
        for view in views
    ]
    return ", ".join(told) or "none"


def _told(run: Run) -> str:
    return f"run {run.id} of {run.function} ({run.status})"


def _near(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, names, 1)
    return f"; did you mean '{near[0]}'?" if near else ""


def _event_ids(run: Run) -> list[str]:
    try:
        return [one.id for one in codec.decode_as(run.event or b"", RawEvent).several()]
    except (ValueError, EventInvalid):
        return []
