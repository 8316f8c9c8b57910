"""Paths: where the site stands. Mounted in another application, or behind a proxy, it does not begin at `/`."""

import re

from starlette.requests import HTTPConnection
from starlette.types import Scope

from stepstream.bus.errors import ConfigError

_ROOT = "stepstream.root"
_OF_THE_API = frozenset({"v0", "v1", "e", "fn", "dev", "invoke", "health", "ready", "metrics", "openapi.json"})


_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*/?")


def check_root(path: str) -> str:
    """Return the path under which a proxy shows the site, without a slash at its end; ConfigError for what is none."""
    if not _PREFIX.fullmatch(path):
        raise ConfigError(f"--root-path {path[:80]!r} is no path: write /bus, as it stands behind the host's name")
    return path.rstrip("/")


def enter(scope: Scope) -> None:
    """Keep where the site begins: what is mounted inside it says that it begins further down.

    A host that was told a prefix (`FastAPI(root_path="/shop")`) which its proxy takes off says that we begin at
    /shop/bus, of a path that is /bus/runs; no route is found in that. So the path is made whole.
    """
    root = scope[_ROOT] = scope.get("root_path", "").rstrip("/")
    told = scope.get("app_root_path", "").rstrip("/")
    if told and not f"{scope['path']}/".startswith(f"{root}/"):
        scope["path"] = told + scope["path"]


def root(request: HTTPConnection) -> str:
    """Return what stands before the site's own paths: empty, or for example `/bus`."""
    return request.scope.get(_ROOT, "")


def own_path(request: HTTPConnection) -> str:
    """Return the path of a request as the site's routes have it."""
    return request.scope["path"].removeprefix(root(request)) or "/"


def wants_page(request: HTTPConnection) -> bool:
    """Whether an error is told to a person: a browser asked for something that is not the API."""
    if request.scope["type"] == "websocket":
        return False
    return not of_the_api(request) and "text/html" in request.headers.get("accept", "")


def of_the_api(request: HTTPConnection) -> bool:
    """Whether a path is one of the API, and not of a page."""
    return own_path(request).removeprefix("/").partition("/")[0] in _OF_THE_API
