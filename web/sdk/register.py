"""`POST /fn/register`: an application behind HTTP says which functions it has. All are taken, or none."""

import uuid
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.errors import EventInvalid
from stepstream.consumers.remote.registration.asked import RegistrationRefused, named
from stepstream.consumers.remote.registration.take_in import note_refused, take_in
from stepstream.producers.body import read_body
from stepstream.producers.strict import parse
from stepstream.web.answers import value
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of
from stepstream.web.trust.keys import keys_of

_WAYS = {
    "dev": "set INNGEST_DEV to its address, or give the server BUS_SIGNING_KEY",
    "cloud": "set INNGEST_DEV=0, INNGEST_BASE_URL, INNGEST_SIGNING_KEY and INNGEST_EVENT_KEY",
}
"""What to do where an SDK has taken this server for one of the other kind, by the kind that it is."""


async def _register(request: Request) -> Response:
    wire = wire_of(request)
    expected, kind = request.headers.get("x-inngest-expected-server-kind"), keys_of(request).kind
    if expected and expected != kind:
        told = f"Expected server kind {expected[:40]}, got {kind}: {_WAYS[kind]}"
        return value({"error": told, "status": 400, "data": None}, 400)
    try:
        read = named(parse(await read_body(request)))
        if not isinstance(read, dict):
            raise EventInvalid(f"the body must be an object, got {type(read).__name__}")  # noqa: TRY301
    except EventInvalid as error:
        return value({"error": f"Invalid request: {error}", "data": None, "status": 400}, 400)
    sent = cast("dict[str, Any]", read)
    try:
        app, is_new = await take_in(wire, sent)
    except RegistrationRefused as error:
        await note_refused(wire, sent, error)
        return value({"error": str(error), "code": error.code, "data": None, "status": 400}, 400)
    told = {"ok": True, "sync_id": _id("sync", app.name, app.checksum), "app_id": _id("app", app.name)}
    return value(told | ({"modified": True} if is_new else {}))


def _id(*parts: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, ":".join(("stepstream", *parts))))


routes = [NeedsRoute("POST", "/fn/register", _register, needs="app", name="sdk_register")]
