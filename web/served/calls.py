"""Calls: an answer to the bus, given up when the bus waits for it no more: its run was cancelled, or it has died."""

import asyncio
from collections.abc import Coroutine
from importlib.metadata import version
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from stepstream.bus.errors import StoreError, StoreUnavailable
from stepstream.bus.process.tasks import cancelled
from stepstream.consumers.remote.protocol import OWN, SDK_HEADER, VERSION_HEADER
from stepstream.consumers.served.reply import Reply
from stepstream.web import answers

SDK = f"{OWN}v{version('stepstream')}"
HEADERS = {SDK_HEADER: SDK, VERSION_HEADER: "2", "x-inngest-framework": "starlette"}


async def answer(request: Request, work: Coroutine[Any, Any, Reply]) -> Response:
    """Do what a request asks, and return the answer; ClientDisconnect when nobody waits for one any more."""
    working = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        reply = working.result()
    except (StoreError, StoreUnavailable) as error:
        return answers.value({"name": error.code, "message": str(error)}, 503, headers=HEADERS)
    finally:
        await cancelled(working, waiting)
    return Response(reply.body, reply.status, {**HEADERS, **reply.headers}, "application/json")


async def _gone(request: Request) -> None:
    """Return when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
