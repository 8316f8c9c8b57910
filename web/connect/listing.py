"""`GET /v0/connect/envs/{env}/conns`: who is connected, as the SDKs' server lists it. There is one environment."""

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from stepstream.checkpoint.apps import apps
from stepstream.checkpoint.connections.workers import workers
from stepstream.consumers.remote.functions import is_connected
from stepstream.web.answers import value
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of

_READY = 1
"""A connection that takes calls, as the protocol has it."""


async def _connections(request: Request) -> Response:
    wire = wire_of(request)
    names = [app.name for app in await apps(wire) if is_connected(app.url)]
    rows: dict[str, dict[str, Any]] = {}
    for name, found in zip(names, await asyncio.gather(*(workers(wire, name) for name in names)), strict=True):
        for one in found:
            language, _, sdk = one.sdk.partition(":")
            row: dict[str, Any] = {
                "id": one.connection, "gateway_id": one.gateway, "instance_id": one.instance, "status": _READY,
                "sdk_language": language, "sdk_version": sdk, "app_names": [],
            }  # fmt: skip
            rows.setdefault(one.connection, row)["app_names"].append(name)
    return value({"data": list(rows.values())})


routes = [NeedsRoute("GET", "/v0/connect/envs/{env}/conns", _connections, needs="read", name="connect_list")]
