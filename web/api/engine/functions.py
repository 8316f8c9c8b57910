"""/v1/functions: what is registered, and what each function is doing."""

import asyncio

import msgspec
from msgspec.structs import asdict
from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.errors import FunctionNotFound, InUse
from stepstream.bus.wire.registering import Registered
from stepstream.bus.wire.types.declared import Disagreement
from stepstream.checkpoint.actions.forget import forget
from stepstream.checkpoint.at_work.functions import function_facts
from stepstream.checkpoint.at_work.overview import AtWork, at_work_of
from stepstream.checkpoint.limits.backlogs import Backlog, Buffer, backlogs_of
from stepstream.checkpoint.read.lists.runs import counts
from stepstream.checkpoint.registry import function_of, functions
from stepstream.checkpoint.types import disagreements, disagreements_of
from stepstream.web.answers import value
from stepstream.web.api.shapes import Plain
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of
from stepstream.web.table.about import About
from stepstream.web.table.paging import Paged
from stepstream.web.table.parameters import Fields, Flag


class FunctionRow(Registered, frozen=True, kw_only=True):
    """A function, and how many runs it has of each status."""

    runs: dict[str, int]


WITH_RUNS = Flag("with_runs", "also where runs have not ended: they are cancelled")
FUNCTION_FIELDS = Fields(FunctionRow)
PAGED_FUNCTIONS = Paged[Registered](lambda one: (one.slug,), (str,), default=1_000)


class FunctionWhole(FunctionRow, frozen=True, kw_only=True):
    """The same with what it is doing, who waits for its limits, and buses that disagree about what starts it."""

    options: tuple[str, ...]
    """Its options in words: limits, retries, timeouts, what cancels its runs, what runs when one has failed."""
    at_work: AtWork
    disagreements: list[Disagreement]
    lines: list[Backlog]
    keys_in_line: int
    buffers: list[Buffer]


class Forgotten(msgspec.Struct, frozen=True):
    """A function that is no more, and the event names whose events no longer wait for it."""

    function: str
    groups_dropped: list[str]


class FunctionsTold(msgspec.Struct, frozen=True):
    """A page of the functions, by slug, and buses that disagree about a type."""

    data: list[FunctionRow]
    cursor: str | None
    disagreements: list[Disagreement]


async def _functions(request: Request) -> Response:
    wire = wire_of(request)
    page, cursor = PAGED_FUNCTIONS.of(request, await functions(wire))
    how_many = await counts(wire, [function.slug for function in page])
    apart = await disagreements(wire)
    rows = [FunctionRow(**asdict(function), runs=how_many[function.slug]) for function in page]
    return value(FunctionsTold(FUNCTION_FIELDS.rows(request, rows), cursor, apart))


async def _function(request: Request) -> Response:
    wire, slug = wire_of(request), request.path_params["id"]
    known = await function_of(wire, slug)
    [facts], found, apart = await asyncio.gather(
        function_facts(wire, [known]), backlogs_of(wire, slug), disagreements_of(wire, known)
    )
    whole = FunctionWhole(
        **asdict(known),
        runs=facts.runs,
        options=known.in_words,
        at_work=at_work_of(facts),
        disagreements=apart,
        lines=found.backlogs,
        keys_in_line=found.keys,
        buffers=found.buffers,
    )
    return value(Plain(whole))


async def _forget(request: Request) -> Response:
    slug, with_runs = request.path_params["id"], WITH_RUNS.of(request)
    return value(Plain(Forgotten(slug, await forget(wire_of(request), slug, with_runs=with_runs))))


routes = [
    NeedsRoute(
        "GET",
        "/v1/functions",
        _functions,
        needs="read",
        name="api_functions",
        about=About(
            summary="The functions with their runs by status, and buses that disagree about a type.",
            query=(*PAGED_FUNCTIONS.query, FUNCTION_FIELDS),
            answer=FunctionsTold,
        ),
    ),
    NeedsRoute(
        "GET",
        "/v1/functions/{id:path}",
        _function,
        needs="read",
        name="api_function",
        about=About(
            summary="One function: its options in words; what it is doing (`at_work`): its last hour, what waits and "
            "since when, workers, code versions alive, pause; who waits for its limits.",
            answer=Plain[FunctionWhole],
            errors=(FunctionNotFound,),
        ),
    ),
    NeedsRoute(
        "DELETE",
        "/v1/functions/{id:path}",
        _forget,
        needs="admin",
        name="api_forget_function",
        about=About(
            summary="Forget a function that no worker serves, with its runs, as `bus functions forget` does; while "
            "some have not ended only with `?with_runs=true`: they are cancelled.",
            query=(WITH_RUNS,),
            answer=Plain[Forgotten],
            errors=(FunctionNotFound, InUse),
        ),
    ),
]
