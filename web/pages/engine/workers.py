"""The page of workers: what each has in hand and since when; of the dead what they had when they were last seen."""

import msgspec
from starlette.requests import Request

from stepstream.checkpoint.facts.workers import WorkerView, workers_told
from stepstream.web.live.feed import ALL
from stepstream.web.pages.page import View, page
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
        topic=ALL.text,
    )


def row(one: WorkerView) -> Row:
    """Return a worker as the page shows it."""
    state, how = ("at work", "completed") if one.alive else ("gone", "failed")
    if one.alive and one.draining:
        state, how = "draining", "waiting"
    return Row(one, state, how, tuple(sorted(one.functions.items())))


routes = [page("/workers", "workers", _read)]
