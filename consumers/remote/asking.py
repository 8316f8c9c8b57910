"""Asking: one call of an app for a run, by the way that its URL names, and what it means that nobody is there."""

import contextlib
from typing import Final

import msgspec

from stepstream.bus.errors import Unavailable
from stepstream.bus.settings import Settings
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.apps import App, put
from stepstream.checkpoint.run.memo import Failure
from stepstream.consumers.remote.calls.client import Client, Unauthorized
from stepstream.consumers.remote.calls.connected import ConnectedClient
from stepstream.consumers.remote.calls.post import Unreachable
from stepstream.consumers.remote.functions import RemoteBus, is_connected
from stepstream.consumers.remote.memos import Position, job_of
from stepstream.consumers.remote.protocol import (
    RUN_HEADER,
    STEP_HEADER,
    VERSION_HEADER,
    Answer,
    BadAnswer,
    unwrapped,
)
from stepstream.consumers.turn.turn import Turn

_UNAUTHORIZED: Final = "unauthorized"
"""The error of an app that answers 401."""


class AppGone(BaseException):
    """The app cannot be reached: nothing was attempted, so it must not become an attempt of a step."""

    def __init__(self, failure: Failure, again_ms: int) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.again_ms = again_ms


class Asking:
    """Calls one app for all its runs that are at work here."""

    def __init__(self, bus: RemoteBus, configured: Settings) -> None:
        self._bus = bus
        self._client = Client(configured)
        self._connected: ConnectedClient | None = None

    async def ask(self, turn: Turn, url: str, at: Position, body: bytes) -> Answer:
        """Call the app for a step, or for what is next; AppGone, CallBroken or BadAnswer when it gives no answer."""
        headers = {
            "content-type": "application/json",
            "user-agent": "Stepstream",
            RUN_HEADER: turn.owned.run,
            STEP_HEADER: at.step,
            "x-request-id": at.request,
            "x-inngest-job-id": job_of(turn.owned),
            VERSION_HEADER: str(at.version),
        }
        if trace := turn.trace_of():
            headers["traceparent"] = trace
        way = self._way(turn.wire, url)
        try:
            answer = unwrapped(await way.call(f"{url}&stepId={at.step}", body, headers))
        except Unauthorized as error:
            await self._note_unauthorized(turn.wire, str(error))
            raise AppGone(Failure("unauthorized", str(error)), way.down_ms()) from None
        except Unreachable as error:
            raise AppGone(Failure("unreachable", str(error)), way.down_ms()) from None
        if not answer.is_sdk and answer.status < 300:
            raise BadAnswer(
                f"{url} answered {answer.status} and is not an SDK: "
                "it has no x-inngest-sdk header; is that where the app serves its functions?"
            )
        return answer

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()
        if self._connected is not None:
            await self._connected.close()

    def _way(self, wire: Wire, url: str) -> Client | ConnectedClient:
        """Return what calls an URL: over HTTP, or by the WebSockets that workers of the application hold."""
        if not is_connected(url):
            return self._client
        if self._connected is None:
            self._connected = ConnectedClient(wire)
        return self._connected

    async def _note_unauthorized(self, wire: Wire, words: str) -> None:
        """Keep on the app that it does not accept who calls; the next sync that goes well takes that back."""

        def noted(stands: App | None) -> App | None:
            return stands and msgspec.structs.replace(stands, error=words, error_code=_UNAUTHORIZED)

        if self._bus.app.error_code != _UNAUTHORIZED:
            with contextlib.suppress(Unavailable):  # the run has it too
                await put(wire, self._bus.app.name, noted)
