"""The page of a run."""

import asyncio

from starlette.requests import Request

from stepstream.bus.blobs.reference import keys_in
from stepstream.bus.values.clock import now_ms
from stepstream.checkpoint.facts.attempts import attempts_of
from stepstream.checkpoint.read.run.family import family
from stepstream.checkpoint.read.run.find import get
from stepstream.checkpoint.read.run.log import log_of
from stepstream.checkpoint.read.run.steps import steps
from stepstream.checkpoint.read.run.trace import trace_of_run
from stepstream.checkpoint.read.run.verdict import verdict
from stepstream.checkpoint.registry import functions
from stepstream.web.pages.one_run.kin import relatives
from stepstream.web.pages.one_run.zoom import window_of
from stepstream.web.pages.page import page
from stepstream.web.pages.run_view import SHOWN_LINES, RunPage, run_page
from stepstream.web.store import wire_of
from stepstream.web.trust.hiding import hidden_now


async def _read(request: Request) -> RunPage:
    wire = wire_of(request)
    stored = await get(wire, request.path_params["id"])
    hidden = hidden_now().of_event(stored.event)
    found = hidden.of(stored)
    slug = found.function
    asked = request.query_params
    later = asked.get("kin") == "all"
    written, taken, failed, known, told, kin = await asyncio.gather(
        log_of(wire, slug, found.id, SHOWN_LINES),
        steps(wire, slug, found.id),
        attempts_of(wire, slug, found.id),
        functions(wire, [slug]),
        verdict(wire, found),
        family(wire, found, later=later),
    )
    return run_page(
        found, hidden.of(taken), now_ms(), hidden.of(written),
        attempts=hidden.of(failed),
        verdict=hidden.of(told.words),
        code_now=known[0].code if known else "",
        event_is_whole=stored.event is None or not keys_in(bytes(stored.event)),
        kin=relatives(kin),
        later_kin=kin.cut if later else None,
        closer=asked.get("closer", ""),
        window=window_of(asked),
        trace=trace_of_run(found, wire.settings.trace_url),
    )  # fmt: skip


routes = [page("/runs/{id}", "run", _read, section="runs")]
