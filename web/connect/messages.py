"""Messages between a worker and its gateway, as the official SDKs have them; fields that nobody reads are left out.

Each goes in a Frame that says which it is.
"""

from enum import IntEnum
from typing import Annotated

from msgspec import field

from stepstream.web.connect.protobuf import Message

PROTOCOL = "v0.connect.inngest.com"
"""The subprotocol of the WebSocket."""


class Kind(IntEnum):
    """What is in a frame."""

    HELLO = 0
    WORKER_CONNECT = 1
    CONNECTION_READY = 2
    REQUEST = 3
    WORKER_READY = 4
    REQUEST_ACK = 5
    REPLY = 6
    REPLY_ACK = 7
    WORKER_PAUSE = 8
    WORKER_HEARTBEAT = 9
    GATEWAY_HEARTBEAT = 10
    CLOSING = 11
    EXTEND_LEASE = 12
    EXTEND_LEASE_ACK = 13
    SYNC_FAILED = 14
    WORKER_STATUS = 15


class Frame(Message):
    """One message of a WebSocket."""

    kind: Annotated[int, 1] = 0
    payload: Annotated[bytes, 2] = b""


def frame(kind: Kind, payload: Message | None = None) -> bytes:
    """Return a message as it goes through a WebSocket."""
    return Frame(kind=kind, payload=payload.encoded() if payload is not None else b"").encoded()


class StartRequest(Message):
    """A worker asks for a connection, and names the gateways that it does not want again."""

    exclude_gateways: Annotated[tuple[str, ...], 1] = ()


class StartResponse(Message):
    """Where a worker connects, and what it says there."""

    connection_id: Annotated[str, 1] = ""
    gateway_endpoint: Annotated[str, 2] = ""
    gateway_group: Annotated[str, 3] = ""
    session_token: Annotated[str, 4] = ""
    sync_token: Annotated[str, 5] = ""


class AppConfiguration(Message):
    """An application of a worker; `functions` is what it would register, as JSON."""

    app_name: Annotated[str, 1] = ""
    app_version: Annotated[str, 2] = ""
    functions: Annotated[bytes, 4] = b""


class AuthData(Message):
    """The tokens that a worker was given."""

    session_token: Annotated[str, 1] = ""
    sync_token: Annotated[str, 2] = ""


class WorkerConnect(Message):
    """A worker presents itself."""

    connection_id: Annotated[str, 1] = ""
    instance_id: Annotated[str, 2] = ""
    auth_data: Annotated[AuthData, 3] = field(default_factory=AuthData)
    capabilities: Annotated[bytes, 4] = b""
    apps: Annotated[tuple[AppConfiguration, ...], 5] = ()
    worker_manual_readiness_ack: Annotated[bool, 6] = False
    framework: Annotated[str, 9] = ""
    sdk_version: Annotated[str, 11] = ""
    sdk_language: Annotated[str, 12] = ""
    max_worker_concurrency: Annotated[int, 14] = 0


class ConnectionReady(Message):
    """A worker is accepted, and told how often to send a heartbeat and to extend the leases of its calls: `10s`."""

    heartbeat_interval: Annotated[str, 1] = ""
    extend_lease_interval: Annotated[str, 2] = ""


class SyncFailed(Message):
    """A worker's applications are refused."""

    code: Annotated[str, 1] = ""
    message: Annotated[str, 3] = ""


class Request(Message):
    """A call."""

    request_id: Annotated[str, 1] = ""
    account_id: Annotated[str, 2] = ""
    env_id: Annotated[str, 3] = ""
    app_id: Annotated[str, 4] = ""
    app_name: Annotated[str, 5] = ""
    function_id: Annotated[str, 6] = ""
    function_slug: Annotated[str, 7] = ""
    step_id: Annotated[str, 8] = ""
    request_payload: Annotated[bytes, 9] = b""
    run_id: Annotated[str, 12] = ""
    lease_id: Annotated[str, 13] = ""


class RequestAck(Message):
    """A worker has a call in hand."""

    request_id: Annotated[str, 1] = ""


class ExtendLease(Message):
    """A worker still has it in hand."""

    request_id: Annotated[str, 1] = ""


class ExtendLeaseAck(Message):
    """It has it from now on by another lease; without one, nobody waits for its answer any more."""

    request_id: Annotated[str, 1] = ""
    account_id: Annotated[str, 2] = ""
    env_id: Annotated[str, 3] = ""
    app_id: Annotated[str, 4] = ""
    function_slug: Annotated[str, 5] = ""
    new_lease_id: Annotated[str, 6] = ""


class Status(IntEnum):
    """How a call ended."""

    NOT_COMPLETED = 0
    DONE = 1
    ERROR = 2


class Response(Message):
    """The answer to a call."""

    request_id: Annotated[str, 1] = ""
    status: Annotated[int, 5] = 0
    body: Annotated[bytes, 6] = b""
    no_retry: Annotated[bool, 7] = False
    retry_after: Annotated[str, 8] = ""
    sdk_version: Annotated[str, 9] = ""
    request_version: Annotated[int, 10] = 0


class ReplyAck(Message):
    """An answer is kept."""

    request_id: Annotated[str, 1] = ""
