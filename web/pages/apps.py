"""The page of applications behind HTTP, as plain values: where each is, how its last sync went, and what to do."""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec
from starlette.requests import Request

from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.durations import in_words
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.apps import App, apps
from stepstream.checkpoint.connections.workers import Worker, workers
from stepstream.consumers.remote.functions import is_connected
from stepstream.web.live.feed import ALL
from stepstream.web.pages.page import View, page
from stepstream.web.pages.views import when
from stepstream.web.store import wire_of

_LANGUAGES = {"js": "TypeScript", "py": "Python", "go": "Go"}


class AppRow(msgspec.Struct, frozen=True):
    """An application. `functions` are the slugs of what it has, `removed` of what it had, while runs of that go on."""

    name: str
    url: str
    state: str
    sdk: str
    framework: str
    version: int
    synced: str
    ago: str
    functions: tuple[str, ...]
    removed: tuple[str, ...]
    error: str
    code: str
    note: str
    is_connected: bool = False
    workers: tuple[str, ...] = ()
    """Those that are connected, each in words."""

    @property
    def is_well(self) -> bool:
        """Whether its last sync went well."""
        return self.state == "synced"


class AppsPage(View, frozen=True):
    """The page `/apps`; `here` is where this site is, for the lines that teach."""

    apps: tuple[AppRow, ...]
    here: str


async def connected_of(wire: Wire, known: Sequence[App]) -> dict[str, list[Worker]]:
    """Return the connected workers of those applications that are not called over HTTP, by name."""
    names = [app.name for app in known if is_connected(app.url)]
    found = await asyncio.gather(*(workers(wire, name) for name in names))
    return dict(zip(names, found, strict=True))


def worker_in_words(worker: Worker, now: int) -> str:
    """Return what is told of a connected worker."""
    ago = in_words(max(0, now - worker.since))
    version = f", version {worker.version}" if worker.version else ""
    return (
        f"{worker.instance or worker.connection} ({sdk_in_words(worker.sdk)}{version}): connected {ago} ago to gateway "
        f"{worker.gateway}, has {len(worker.calls)} of {worker.capacity} calls in hand"
    )


def apps_page(known: Sequence[App], connected: Mapping[str, Sequence[Worker]], here: str, now: int) -> AppsPage:
    """Return the page of applications behind HTTP: those in trouble come first."""
    rows = [_row(app, connected.get(app.name), now) for app in known]
    return AppsPage(tuple(sorted(rows, key=lambda row: (row.is_well, row.name))), here, topic=ALL.text)


def sdk_in_words(sdk: str) -> str:
    """Return an SDK as people call it: TypeScript 4.24.0."""
    language, _, version = sdk.partition(":")
    return f"{_LANGUAGES.get(language, language)} {version.removeprefix('v')}".strip()


def _row(app: App, connected: Sequence[Worker] | None, now: int) -> AppRow:
    return AppRow(
        name=app.name if app.name != app.url else "",
        url=app.url,
        state="error" if app.error else "synced" if app.checksum else "syncing",
        sdk=sdk_in_words(app.sdk),
        framework=app.framework,
        version=app.version,
        synced=when(app.synced)[:-4] if app.synced else "",
        ago=f"{in_words(max(0, now - app.synced))} ago" if app.synced else "",
        functions=tuple(sorted(app.functions)),
        removed=tuple(sorted(app.archived)),
        error=app.error,
        code=app.error_code,
        note=app.note,
        is_connected=connected is not None,
        workers=tuple(worker_in_words(one, now) for one in connected or ()),
    )


async def _read(request: Request) -> AppsPage:
    wire = wire_of(request)
    known = await apps(wire)
    return apps_page(known, await connected_of(wire, known), str(request.base_url).rstrip("/"), now_ms())


routes = [page("/apps", "apps", _read)]
