"""The front page: what is wrong, first; then each function."""

import msgspec
from starlette.requests import Request

from stepstream.checkpoint.delayed import list_delayed
from stepstream.checkpoint.read.listing import counts
from stepstream.checkpoint.registry import functions, workers
from stepstream.web.live.feed import ALL
from stepstream.web.pages import views
from stepstream.web.pages.page import View, page
from stepstream.web.store import wire_of

DELAYED = 10


class Delayed(msgspec.Struct, frozen=True):
    """An event that is to be published later."""

    name: str
    id: str
    due: int


class Overview(View, frozen=True):
    """The page `/`."""

    functions: tuple[views.FunctionRow, ...]
    workers: int
    delayed: tuple[Delayed, ...]


async def _read(request: Request) -> Overview:
    wire = wire_of(request)
    known = await functions(wire)
    how_many = await counts(wire, [function.slug for function in known])
    return Overview(
        functions=views.rows(known, how_many),
        workers=len(await workers(wire)),
        delayed=tuple(Delayed(one.name, one.id, one.due) for one in await list_delayed(wire, limit=DELAYED)),
        topic=ALL.text,
    )


routes = [page("/", "overview", _read)]
