"""/metrics: the store as gauges for Prometheus, and what this process has taken; `measures.py` makes them."""

import asyncio

import structlog
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.errors import BusError
from stepstream.bus.wire.publishing import Publisher
from stepstream.bus.wire.wire import Wire
from stepstream.web.api.engine.measures import Measures, looked_at
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import publisher_of, wire_of
from stepstream.web.table.about import TEXT, About

PATIENCE_S = 2.0
"""How long Redis may take to answer: a scrape that hangs tells nothing, one that says that Redis is away does."""
READ_S = 7.0
"""How long all that is read may take, of a Redis that answers: Prometheus waits for 10 s."""


async def measures_of(wire: Wire, publisher: Publisher) -> Measures:
    """Return what is told of a moment; without Redis only that, and what this process knows."""
    is_up, seen = False, None
    try:
        await wire.within(PATIENCE_S, wire.call("PING"))
        is_up = True
        seen = await wire.within(READ_S, looked_at(wire))
    except BusError as error:
        if is_up:  # else the connection has told it
            structlog.get_logger("web").warning("the store could not be read for /metrics", error=str(error))
    return Measures(seen, publisher, is_up=is_up)


async def _metrics(request: Request) -> Response:
    told = await measures_of(wire_of(request), publisher_of(request))
    encode, kind = choose_encoder(request.headers.get("accept", ""))
    # With hundreds of functions it takes tens of milliseconds: others are served meanwhile.
    return Response(await asyncio.to_thread(encode, told), headers={"content-type": kind})


routes = [
    NeedsRoute(
        "GET",
        "/metrics",
        _metrics,
        needs="read",
        name="metrics",
        is_bounded=True,
        about=About(
            summary="The store as gauges for Prometheus; 200 also without Redis, which `stepstream_redis_up` tells.",
            answer=TEXT,
        ),
    ),
]
