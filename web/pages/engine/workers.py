"""The page of workers: what each has in hand and since when; of the dead what they had when they were last seen.

A button tells one to drain.
"""

import contextlib

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from stepstream.checkpoint.actions.drain import NotDrained, drain
from stepstream.checkpoint.at_work.redis_cli import of_workers
from stepstream.checkpoint.facts.workers import WorkerView, workers_told
from stepstream.web.live.feed import ALL
from stepstream.web.pages.csrf import received
from stepstream.web.pages.page import View, page
from stepstream.web.routing import NeedsRoute, link
from stepstream.web.store import wire_of

SHOWN = 100


class Row(msgspec.Struct, frozen=True):
    """A worker: a word for how it is, and its functions with their code versions, by name."""

    worker: WorkerView
    state: str
    how: str
    functions: tuple[tuple[str, str], ...]


class Workers(View, frozen=True):
    """The page `/workers`: the living, and the dead of the last day."""

    alive: tuple[Row, ...]
    dead: tuple[Row, ...]
    more: int


async def _read(request: Request) -> Workers:
    told = await workers_told(wire_of(request))
    shown = tuple(map(row, told[:SHOWN]))
    return Workers(
        alive=tuple(one for one in shown if one.worker.alive),
        dead=tuple(sorted((one for one in shown if not one.worker.alive), key=lambda one: not one.worker.in_hand)),
        more=max(0, len(told) - SHOWN),
        looks=tuple(of_workers([one.name for one in told])),
        topic=ALL.text,
    )


def row(one: WorkerView) -> Row:
    """Return a worker as the page shows it."""
    state, how = ("at work", "completed") if one.alive else ("gone", "failed")
    if one.alive and one.draining:
        state, how = "draining", "waiting"
    return Row(one, state, how, tuple(sorted(one.functions.items())))


async def _drain(request: Request) -> Response:
    await received(request)
    with contextlib.suppress(NotDrained):  # pressed twice, or gone by itself: the page says so
        await drain(wire_of(request), request.path_params["worker"], "the status page")
    return RedirectResponse(link(request, "workers"), 303)


routes = [
    page("/workers", "workers", _read),
    NeedsRoute("POST", "/workers/{worker:path}/drain", _drain, needs="operate", name="drain_worker"),
]
