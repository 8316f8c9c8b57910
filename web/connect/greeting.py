"""Greeting: a worker that has opened its connection says who it is; its applications are registered, or refused."""

import asyncio
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from stepstream.bus.errors import BadRequest, EventInvalid
from stepstream.bus.trust.signing import is_any
from stepstream.bus.values.clock import now_ms
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.connections.calls import leases_of
from stepstream.checkpoint.connections.workers import Worker, kept
from stepstream.consumers.remote.registration.asked import RegistrationRefused, named
from stepstream.consumers.remote.registration.take_in import note_refused, take_in
from stepstream.producers.strict import parse
from stepstream.web.connect.messages import AppConfiguration, Frame, Kind, WorkerConnect, frame
from stepstream.web.connect.worker import Connected, Offered

WITHIN_S = 10.0
"""How long a worker may take to say who it is, s."""
MOST_CAPACITY = 1_000
"""How many calls a worker can have in hand that does not say how many."""
_LANGUAGES = {"typescript": "js", "javascript": "js"}


class Refused(Exception):
    """A worker that may not connect; `code` is for programs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


async def greeted(socket: WebSocket, wire: Wire, gateway: str) -> tuple[Connected, bool]:
    """Return the worker that has opened a connection, and whether it says by itself when it is ready; or Refused."""
    await socket.send_bytes(frame(Kind.HELLO))
    try:
        async with asyncio.timeout(WITHIN_S):
            said = Frame.decoded(await socket.receive_bytes())
        if said.kind != Kind.WORKER_CONNECT:
            raise Refused("connect_worker_hello_invalid_msg", "the first message must be WORKER_CONNECT")
        asked = WorkerConnect.decoded(said.payload)
    except TimeoutError:
        raise WebSocketDisconnect(1002, "no message came") from None
    except (BadRequest, KeyError) as error:
        raise Refused(
            "connect_worker_hello_invalid_payload", f"the first message is not WORKER_CONNECT: {error}"
        ) from None
    promised = await kept(wire, asked.connection_id)
    if not promised or not is_any(asked.auth_data.session_token, [promised]):
        raise Refused(
            "connect_authentication_failed", "its token was not given for this connection within the last minute"
        )
    sdk = f"{_LANGUAGES.get(asked.sdk_language, asked.sdk_language)}:v{asked.sdk_version.removeprefix('v')}"
    apps: dict[str, Offered] = {}
    for app in asked.apps:
        name, offered = await _registered(wire, app, sdk, asked.framework)
        apps[name] = offered
    if not apps:
        raise Refused("connect_no_apps", "it has no application")
    worker = Worker(
        connection=asked.connection_id,
        gateway=gateway,
        instance=asked.instance_id[:200],
        sdk=sdk[:100],
        version=asked.apps[0].app_version[:100],
        capacity=min(max(0, asked.max_worker_concurrency), MOST_CAPACITY) or MOST_CAPACITY,
        since=now_ms(),
    )
    lease_s = leases_of(wire.settings).call_ms / 1_000
    return Connected(socket, worker, apps, lease_s), asked.worker_manual_readiness_ack


async def _registered(wire: Wire, app: AppConfiguration, sdk: str, framework: str) -> tuple[str, Offered]:
    try:
        functions: Any = named(parse(app.functions or b"[]"))
    except EventInvalid as error:
        raise Refused("connect_worker_hello_invalid_payload", f"the functions of {app.app_name}: {error}") from None
    sent = {
        "appName": app.app_name,
        "appVersion": app.app_version,
        "framework": framework,
        "functions": functions,
        "sdk": sdk,
    }
    try:
        registered, _ = await take_in(wire, sent, connected=True)
    except RegistrationRefused as error:
        await note_refused(wire, sent, error)
        raise Refused(error.code, str(error)) from None
    slugs = frozenset(str(one["id"]) for one in functions)  # what is registered is a list of such
    return registered.name, Offered(app.app_name, slugs)
