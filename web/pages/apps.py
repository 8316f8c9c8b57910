"""The page of applications behind HTTP, as plain values: where each is, how its last sync went, and what to do."""

from collections.abc import Mapping, Sequence

import msgspec
from starlette.requests import Request

from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.durations import in_words
from stepstream.checkpoint.apps import App, apps
from stepstream.checkpoint.at_work.redis_cli import of_apps
from stepstream.checkpoint.connections.workers import Worker
from stepstream.web.live.feed import ALL
from stepstream.web.pages.page import View, page
from stepstream.web.pages.views import when
from stepstream.web.sdk.told import connected_of, sdk_in_words, worker_in_words
from stepstream.web.store import wire_of


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


def apps_page(known: Sequence[App], connected: Mapping[str, Sequence[Worker]], here: str, now: int) -> AppsPage:
    """Return the page of applications behind HTTP: those in trouble come first."""
    rows = [_row(app, connected.get(app.name), now) for app in known]
    ordered = tuple(sorted(rows, key=lambda row: (row.is_well, row.name)))
    return AppsPage(ordered, here, looks=tuple(of_apps(list(connected))), topic=ALL.text)


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
