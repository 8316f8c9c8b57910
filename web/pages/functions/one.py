"""The page of a function: what it does now, what starts it, who waits for its limits, and what can be done with it."""

import asyncio
from collections.abc import Sequence
from urllib.parse import unquote

import msgspec
from starlette.requests import Request

from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.durations import in_words
from stepstream.bus.wire.types.declared import Disagreement
from stepstream.checkpoint.at_work.functions import FunctionFacts, function_facts
from stepstream.checkpoint.at_work.redis_cli import of_function, of_limits
from stepstream.checkpoint.limits.backlogs import Backlog, Backlogs, Buffer, backlogs_of
from stepstream.checkpoint.read.lists.runs import list_runs
from stepstream.checkpoint.registry import function_of
from stepstream.checkpoint.run.record import RunSummary
from stepstream.checkpoint.types import disagreements_of, invoked_name, schemas_of
from stepstream.web.live.feed import Topic
from stepstream.web.pages import views
from stepstream.web.pages.functions.listing import backlog_in_words, paused_in_words
from stepstream.web.pages.overview import Hour, hour
from stepstream.web.pages.page import View, page
from stepstream.web.pages.typed import TypedForm, typed_form
from stepstream.web.store import wire_of

LATEST = 50


class LineRow(msgspec.Struct, frozen=True):
    """The backlog of one limit key: the key's value, and the limit in words."""

    key: str
    rule: str
    waiting: int
    running: int


class FunctionPage(View, frozen=True):
    """The page `/functions/{slug}`; `problem` is why what was asked of it was not done."""

    slug: str
    name: str
    owner: str
    on: tuple[str, ...]
    options: tuple[str, ...]
    code: str
    codes: tuple[str, ...]
    """The versions of its code that are alive, where that is another one than the declared, or several."""
    hour: Hour
    counts: tuple[tuple[str, int], ...]
    backlog: str
    unread: int
    oldest: str
    oldest_run: str
    workers: int
    paused: str
    is_limited: bool
    lines: tuple[LineRow, ...]
    more_lines: int
    buffers: tuple[str, ...]
    disagreements: tuple[str, ...]
    runs: tuple[views.RunRow, ...]
    invoke: TypedForm
    problem: str = ""

    @property
    def schedules(self) -> tuple[str, ...]:
        """Its schedules, of which each can be run now."""
        return tuple(text for text in self.on if text.startswith("cron "))


def function_page(
    facts: FunctionFacts,
    found: Backlogs,
    runs: Sequence[RunSummary],
    now: int,
    apart: Sequence[Disagreement] = (),
    invoke: TypedForm | None = None,
) -> FunctionPage:
    """Return the page of a function."""
    function, waiting = facts.function, [line.key for line in found.backlogs if line.key != "-"]
    return FunctionPage(
        slug=function.slug,
        name=function.name,
        owner=function.owner,
        on=function.on,
        options=function.in_words,
        code=function.code,
        codes=codes_in_words(facts),
        hour=hour(facts.minutes, now),
        counts=tuple((status, count) for status, count in facts.runs.items() if count),
        backlog=backlog_in_words(facts),
        unread=facts.unread.events,
        oldest=in_words(max(0, now - facts.oldest)) if facts.oldest is not None else "",
        oldest_run=facts.oldest_run,
        workers=facts.workers,
        paused=paused_in_words(facts, now),
        is_limited=bool(function.flow),
        lines=tuple(_line(line, function.flow) for line in found.backlogs),
        more_lines=found.keys - len(found.backlogs),
        buffers=tuple(_buffer(held, now) for held in found.buffers),
        disagreements=tuple(one.words for one in apart),
        runs=views.listed(runs, now),
        invoke=invoke or TypedForm(),
        looks=(*of_function(function.slug, function.events), *of_limits([(function.slug, waiting)])),
        topic=Topic(function.slug).text,
    )


def codes_in_words(facts: FunctionFacts) -> tuple[str, ...]:
    """Return which versions of its code are alive; empty where all workers have the one that is declared."""
    if set(facts.codes) <= {facts.function.code}:
        return ()
    return tuple(f"{code}: {count} worker{'' if count == 1 else 's'}" for code, count in sorted(facts.codes.items()))


def _line(line: Backlog, limits: Sequence[str]) -> LineRow:
    """Return a backlog with its limit in words and its key as the event has it."""
    kind, _, value = line.key.partition(":")
    if kind == "t":
        rule = next((words for words in limits if " starts in " in words), "")
    else:
        rule = limits[int(kind[1])] if kind[1:2].isdecimal() and int(kind[1]) < len(limits) else ""
    return LineRow(unquote(value), rule, line.waiting, line.running)


def _buffer(held: Buffer, now: int) -> str:
    kind, _, key = held.key.partition(":")
    when_due = f"in {in_words(max(0, held.due - now))}"
    named = f" for {unquote(key)}" if key else ""
    if kind == "b":
        return f"a batch of {held.events}{named} runs {when_due}, or when it is full"
    return f"an event{named} is held back; it runs {when_due}, if no other comes"


async def read_function(request: Request) -> FunctionPage:
    """Return the page of the function that a request names; FunctionNotFound when there is none."""
    wire = wire_of(request)
    known = await function_of(wire, request.path_params["slug"])
    slug = known.slug
    [facts], found, latest, apart, schemas = await asyncio.gather(
        function_facts(wire, [known]),
        backlogs_of(wire, slug),
        list_runs(wire, [slug], limit=LATEST),
        disagreements_of(wire, known),
        schemas_of(wire, invoked_name(slug)),
    )
    return function_page(facts, found, latest.runs, now_ms(), apart, typed_form(schemas))


routes = [page("/functions/{slug:path}", "function", read_function, section="functions")]
