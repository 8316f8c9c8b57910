"""The page of all functions: what each did in the last hour, what waits for it, who serves it. Paused ones first."""

import msgspec
from starlette.requests import Request

from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.durations import in_words
from stepstream.checkpoint.at_work.functions import FunctionFacts, function_facts
from stepstream.checkpoint.at_work.redis_cli import of_functions
from stepstream.web.live.feed import ALL
from stepstream.web.pages.overview import Hour, hour
from stepstream.web.pages.page import View, page
from stepstream.web.store import wire_of


class Row(msgspec.Struct, frozen=True):
    """A function of the list; `oldest` is how long its oldest queued run has waited, in words."""

    slug: str
    name: str
    on: tuple[str, ...]
    hour: Hour
    backlog: str
    oldest: str
    oldest_run: str
    workers: int
    codes: tuple[str, ...]
    """The versions of its code that are alive."""
    paused: str


class Functions(View, frozen=True):
    """The page `/functions`."""

    rows: tuple[Row, ...]
    paused: int


def functions_page(facts: list[FunctionFacts], now: int) -> Functions:
    """Return the page of functions: those that are paused come first, for somebody has to think of them."""
    rows = [_row(one, now) for one in facts]
    paused = sum(bool(row.paused) for row in rows)
    looks = tuple(of_functions([one.function.slug for one in facts]))
    ordered = sorted(rows, key=lambda row: (not row.paused, row.slug))
    return Functions(tuple(ordered), paused, looks=looks, topic=ALL.text)


def backlog_in_words(facts: FunctionFacts) -> str:
    """Return how much waits to start; empty when nothing does."""
    return f"{'' if facts.unread.exact else '≥ '}{facts.backlog:,}" if facts.backlog else ""


def paused_in_words(facts: FunctionFacts, now: int) -> str:
    """Return since when a function is paused, and by whom; empty when it is not."""
    one = facts.paused
    return f"paused for {in_words(max(0, now - one.since))} by {one.by}" if one is not None else ""


def _row(facts: FunctionFacts, now: int) -> Row:
    return Row(
        slug=facts.function.slug,
        name=facts.function.name,
        on=facts.function.on,
        hour=hour(facts.minutes, now),
        backlog=backlog_in_words(facts),
        oldest=in_words(max(0, now - facts.oldest)) if facts.oldest is not None else "",
        oldest_run=facts.oldest_run,
        workers=facts.workers,
        codes=tuple(sorted(facts.codes)),
        paused=paused_in_words(facts, now),
    )


async def _read(request: Request) -> Functions:
    return functions_page(await function_facts(wire_of(request)), now_ms())


routes = [page("/functions", "functions", _read)]
