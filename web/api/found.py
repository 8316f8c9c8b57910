"""What belongs together: what is wrong, what became of an event, the runs of a run, what a word names."""

from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.errors import BadRequest, RunNotFound
from stepstream.checkpoint.at_work.overview import Overview, look_over
from stepstream.checkpoint.read.anything import Hits, find_anything
from stepstream.checkpoint.read.event.kept import EventNotFound, find_kept
from stepstream.checkpoint.read.event.story import EventStory, event_story
from stepstream.checkpoint.read.run.family import Family, family
from stepstream.checkpoint.read.run.find import get
from stepstream.web.answers import value
from stepstream.web.api.events import CLUES, clue_of
from stepstream.web.api.shapes import Answer, Plain, answer
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of
from stepstream.web.table.about import About
from stepstream.web.table.parameters import Text

LONGEST_WORD = 512

WORD = Text("q", "the word: an id, a name, the value of a limit's key", longest=LONGEST_WORD)


async def _overview(request: Request) -> Response:
    return value(Plain((await look_over(wire_of(request))).told()))


async def _find(request: Request) -> Response:
    text = (WORD.of(request) or "").strip()
    if not 1 <= len(text) <= LONGEST_WORD:
        raise BadRequest(f"q must be 1 to {LONGEST_WORD} characters, got {len(text)}: write /v1/find?q=o1")
    return value({"data": await find_anything(wire_of(request), text)})


async def _family(request: Request) -> Response:
    wire = wire_of(request)
    return value({"data": await family(wire, await get(wire, request.path_params["id"]))})


async def _story(request: Request) -> Response:
    wire = wire_of(request)
    kept = await find_kept(wire, request.path_params["id"], clue_of(request))
    return value(answer(await event_story(wire, kept)))


routes = [
    NeedsRoute(
        "GET",
        "/v1/overview",
        _overview,
        needs="read",
        name="api_overview",
        about=About(
            summary="What is wrong, the worst first, each with the `command` that shows more; of what runs failed in "
            "the last hour; each function's last hour, what waits for it, who serves it. `bus top` has it, too.",
            answer=Plain[Overview],
        ),
    ),
    NeedsRoute(
        "GET",
        "/v1/find",
        _find,
        needs="read",
        name="api_find",
        about=About(
            summary="What a word names: a run, an event, a function, a limit's key; and where it was looked for.",
            query=(WORD,),
            answer=Plain[Hits],
        ),
    ),
    NeedsRoute(
        "GET",
        "/v1/runs/{id}/family",
        _family,
        needs="read",
        name="api_family",
        about=About(
            summary="The runs that belong to it: parent, children, reruns, members of its batch, its `on_failure` run.",
            answer=Plain[Family],
            errors=(RunNotFound,),
        ),
    ),
    NeedsRoute(
        "GET",
        "/v1/events/{id:path}/story",
        _story,
        needs="read",
        name="api_event_story",
        about=About(
            summary="Which functions an event started, and why each other one that listens did not begin.",
            query=CLUES,
            answer=Answer[EventStory],
            errors=(EventNotFound,),
        ),
    ),
]
