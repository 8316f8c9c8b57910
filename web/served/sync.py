"""Sync: an application registers itself as one that is called over HTTP. It has Redis, and asks no server for that."""

from collections.abc import Iterable
from typing import Any

import msgspec
from starlette.requests import Request

from stepstream.bus.function import Function
from stepstream.bus.values import codec
from stepstream.bus.wire.wire import Wire
from stepstream.consumers.remote.functions import same_place
from stepstream.consumers.remote.registration.asked import RegistrationRefused
from stepstream.consumers.remote.registration.take_in import take_in
from stepstream.consumers.served.declaring import configs_of
from stepstream.web.paths import root
from stepstream.web.served.calls import SDK


class _Asked(msgspec.Struct):
    url: str = ""


def url_of(request: Request, body: bytes) -> str:
    """Return the URL at which an application was asked to register: there it is called.

    The one that the bus names counts, if its host is the one that the request came to: behind a proxy the path differs.
    """
    own = f"{request.url.scheme}://{request.url.netloc}{root(request)}"
    try:
        told = codec.decode_as(body or b"{}", _Asked).url
    except msgspec.MsgspecError:
        return own
    is_here = told.partition("://")[2].partition("/")[0] == request.url.netloc
    return told if told and (is_here or same_place(told, own)) else own


async def register(wire: Wire, name: str, functions: Iterable[Function[Any, Any]], url: str) -> dict[str, Any]:
    """Register functions as called at a URL; return what is told of that, with `ok` when it went well."""
    asked = {
        "appName": name,
        "url": url,
        "sdk": SDK,
        "framework": "starlette",
        "v": "0.1",
        "deployType": "ping",
        "functions": configs_of(functions, url),
    }
    try:
        app, is_new = await take_in(wire, asked)
    except RegistrationRefused as error:
        return {"ok": False, "message": str(error), "code": error.code}
    return {"ok": True, "modified": is_new, "message": f"registered as called at {app.url}", "url": app.url}
