"""Mounting: a part of ours inside somebody's Starlette or FastAPI application."""

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Match, Mount
from starlette.types import Scope

from stepstream.bus.errors import ConfigError
from stepstream.web.part import Part


def mount(host: Starlette, path: str, part: Part) -> None:
    """Mount what `serve` returned in an application, and close its connections when the application ends.

    `host` is a Starlette or a FastAPI application; `path` begins with a slash. Unlike `host.mount`, it answers at the
    path without a slash at its end too, instead of redirecting there, and it needs nothing of the host's own lifespan:
    when that is over, it closes the part's connection and those of its buses. A server that runs no lifespan
    (`uvicorn --lifespan off`) leaves them to the end of the process; nothing is lost by that.
    """
    if not path.startswith("/") or path.strip("/") == "":
        raise ConfigError(f"mount path {path!r} must begin with a slash and name a place, as in /bus")
    host.router.routes.append(_Whole(path, part))
    inner = host.router.lifespan_context

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncGenerator[Any]:
        try:
            async with inner(app) as state:
                yield state
        finally:
            await part.close()
            for bus in part.buses:
                await bus.close()

    host.router.lifespan_context = lifespan


class _Whole(Mount):
    """A mount that has its path without the slash too: a redirect would name the host and scheme behind a proxy."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether a request is for what is mounted, and the scope it sees."""
        match, child = super().matches(scope)
        if match is Match.NONE and scope["type"] == "http" and not scope["path"].endswith("/"):
            path = f"{scope['path']}/"
            match, child = super().matches({**scope, "path": path})
            child = {**child, "path": path} if match is Match.FULL else {}
        return match, child
