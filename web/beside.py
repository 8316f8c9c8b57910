"""What a site knows of the worker beside it, in `bus dev`: whether it is up, and if not, why."""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

_PATIENCE_S = 20.0


class WorkerBeside:
    """The worker of `bus dev`, as told by who keeps it. A site that runs alone has none."""

    def __init__(self) -> None:
        self.error = ""
        """Why no worker is up; empty while one starts, and while one works."""
        self.has_been_up = False
        self._decided = asyncio.Event()

    @property
    def is_up(self) -> bool:
        """Whether a worker works."""
        return self._decided.is_set() and not self.error

    def starts(self) -> None:
        """A worker is started."""
        self.error = ""
        self._decided.clear()

    def works(self) -> None:
        """It has registered its functions."""
        self.error, self.has_been_up = "", True
        self._decided.set()

    def is_down(self, error: str) -> None:
        """It could not start, or has ended."""
        self.error = error
        self._decided.set()

    async def decided(self) -> None:
        """Wait until the worker that is being started works, or has failed."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._decided.wait()
        except TimeoutError:
            self.error = self.error or "the worker has not registered its functions yet"


def beside(request: Request) -> WorkerBeside | None:
    """Return the worker beside the site of a request."""
    return getattr(request.app.state, "beside", None)


def after_registration(publish: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint that publishes once the worker beside has registered its functions, so that nothing is lost.

    A worker that has never come up has registered nothing: then the answer is 503, with the reason.
    """

    async def publish_then(request: Request) -> Response:
        worker = beside(request)
        if worker is not None:
            await worker.decided()
            if worker.error and not worker.has_been_up:
                told = f"nothing is stored: {worker.error}"
                return JSONResponse({"ids": [], "status": 503, "error": told, "code": "no_worker"}, status_code=503)
        return await publish(request)

    return publish_then
