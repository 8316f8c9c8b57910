"""Told: what people and programs are told of applications behind HTTP, and of their workers that are connected."""

import asyncio
from collections.abc import Sequence

import msgspec

from stepstream.bus.values.durations import in_words
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.apps import App
from stepstream.checkpoint.connections.workers import Worker, workers
from stepstream.consumers.remote.functions import is_connected

_LANGUAGES = {"js": "TypeScript", "py": "Python", "go": "Go"}


class AppTold(msgspec.Struct, frozen=True):
    """An application: where it is called, when it was `synced` last (Unix ms, 0: never), and how that went.

    `functions` are the slugs of those that it has, `removed` of those that it had, while runs of them go on. `error` is
    empty when the last sync went well. `workers` are those that are connected; null of one that is called over HTTP.
    """

    name: str
    url: str
    sdk: str
    framework: str
    version: int
    synced: int
    functions: list[str]
    removed: list[str]
    error: str
    error_code: str
    note: str
    workers: list[Worker] | None


def app_told(app: App, connected: Sequence[Worker] | None) -> AppTold:
    """Return what is told of an application, and of its connected workers."""
    return AppTold(
        app.name, app.url, app.sdk, app.framework, app.version, app.synced, sorted(app.functions), sorted(app.archived),
        app.error, app.error_code, app.note, None if connected is None else [*connected],
    )  # fmt: skip


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


def sdk_in_words(sdk: str) -> str:
    """Return an SDK as people call it: TypeScript 4.24.0."""
    language, _, version = sdk.partition(":")
    return f"{_LANGUAGES.get(language, language)} {version.removeprefix('v')}".strip()
