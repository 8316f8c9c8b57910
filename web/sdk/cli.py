"""`bus apps`: the applications behind HTTP: listed, asked to register, forgotten."""

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from stepstream.bus.errors import BusError, ConfigError
from stepstream.bus.values import codec
from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.durations import in_words
from stepstream.bus.wire.once import once
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.forget import forget_app
from stepstream.checkpoint.apps import App, app_of
from stepstream.checkpoint.apps import apps as registered
from stepstream.checkpoint.connections.workers import Worker
from stepstream.consumers.remote.functions import is_connected
from stepstream.web.pages.apps import connected_of, sdk_in_words, worker_in_words
from stepstream.web.sdk.sync import Trouble, sync

_USAGE = "write: bus apps, bus apps sync URL, or bus apps forget NAME"


class SyncFailed(BusError):
    """An application could not be asked to register, or refused; the message says what to do."""

    code = "sync_failed"


def apps(
    action: Annotated[
        str | None, typer.Argument(metavar="[sync|forget]", help="Ask one to register; forget one.")
    ] = None,
    which: Annotated[str | None, typer.Argument(metavar="[URL|NAME]", help="Its URL, or its name.")] = None,
    with_runs: Annotated[
        bool, typer.Option("--with-runs", help="Forget it with runs that have not ended: they are cancelled.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the applications behind HTTP; or ask one to register its functions; or forget one, with its runs."""
    if action is None:
        _list(as_json=as_json)
    elif which is None or action not in {"sync", "forget"}:
        raise ConfigError(_USAGE)
    elif action == "forget":
        slugs = once(lambda wire: forget_app(wire, which, with_runs=with_runs))
        sys.stdout.write(f"{which} is forgotten; its functions were: {', '.join(slugs) or 'none'}\n")
    else:
        _sync(which)


def _list(*, as_json: bool) -> None:
    known, connected = once(_known)
    if as_json:
        sys.stdout.write(codec.encode([_told(app, connected.get(app.name)) for app in known]).decode() + "\n")
        return
    if not known:
        sys.stdout.write("no applications behind HTTP yet; let one register: bus apps sync URL\n")
        return
    table = Table("app", "url", "sdk", "functions", "synced", "state", box=None, pad_edge=False)
    now = now_ms()
    for app in known:
        ago = f"{in_words(max(0, now - app.synced))} ago" if app.synced else "never"
        state = app.error_code or ("synced" if app.checksum else "syncing")
        name = app.name if app.name != app.url else "-"
        table.add_row(name, app.url, sdk_in_words(app.sdk), str(len(app.functions)), ago, state)
    width = None if sys.stdout.isatty() else 200  # a pipe is not cut at 80 columns
    console = Console(markup=False, highlight=False, width=width)
    console.print(table)
    for app in known:
        told_of = [worker_in_words(worker, now) for worker in connected.get(app.name, ())]
        if app.name in connected and not told_of:
            told_of = ["no worker is connected: its runs wait"]
        for told in filter(None, (*told_of, app.error, app.note)):
            console.print("".join(letter if letter.isprintable() else " " for letter in f"{app.name}: {told}"))


async def _known(wire: Wire) -> tuple[list[App], dict[str, list[Worker]]]:
    known = await registered(wire)
    return known, await connected_of(wire, known)


def _told(app: App, connected: list[Worker] | None) -> dict[str, object]:
    return {
        "name": app.name,
        "url": app.url,
        "sdk": app.sdk,
        "framework": app.framework,
        "version": app.version,
        "synced": app.synced,
        "functions": sorted(app.functions),
        "removed": sorted(app.archived),
        "error": app.error,
        "error_code": app.error_code,
        "note": app.note,
        **({} if connected is None else {"workers": connected}),
    }


def _sync(which: str) -> None:
    async def work(wire: Wire) -> App | Trouble:
        found = None if "/" in which or ":" in which else await app_of(wire, which)
        if found is not None and is_connected(found.url):
            raise ConfigError(f"the workers of app '{which}' connect by themselves, and register it when they do")
        return await sync(wire, which if found is None else found.url)

    found = once(work)
    if isinstance(found, Trouble):
        raise SyncFailed(f"{which} could not be synced: {found.words} ({found.code})")
    names = ", ".join(sorted(found.functions)) or "no function"
    sys.stdout.write(f"{found.name} is registered, version {found.version}: {names}\n")
