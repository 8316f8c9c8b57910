"""`bus apps`: the applications behind HTTP: listed, asked to register, forgotten."""

from typing import Annotated

import typer

from stepstream.bus.errors import BusError, ConfigError
from stepstream.bus.process.terminal import say
from stepstream.bus.values.clock import now_ms
from stepstream.bus.wire.once import once
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.forget import forget_app
from stepstream.checkpoint.apps import App, app_of
from stepstream.checkpoint.apps import apps as registered
from stepstream.checkpoint.audit_log import acted
from stepstream.checkpoint.cli.printing import Cell, ago, print_json, print_none, print_table, words
from stepstream.checkpoint.connections.workers import Worker
from stepstream.consumers.remote.functions import is_connected
from stepstream.web.sdk.sync import Trouble, sync
from stepstream.web.sdk.told import app_told, connected_of, sdk_in_words, worker_in_words

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
    """List the applications behind HTTP; or ask one to register its functions; or forget one, with its runs.

    bus apps sync http://127.0.0.1:3000/api/inngest, bus apps forget shop
    """
    if action is None:
        _list(as_json=as_json)
    elif which is None or action not in {"sync", "forget"}:
        raise ConfigError(_USAGE)
    elif action == "forget":
        slugs = once(lambda wire: acted(wire, "forget_app", which, forget_app(wire, which, with_runs=with_runs)))
        if as_json:
            print_json({"app": which, "forgotten": True, "functions": sorted(slugs)})
        else:
            say(f"{which} is forgotten; its functions were: {', '.join(slugs) or 'none'}")
    else:
        _sync(which, as_json=as_json)


def _list(*, as_json: bool) -> None:
    known, connected = once(_known, shows=True)
    if as_json:
        print_json([app_told(app, connected.get(app.name)) for app in known])
        return
    if not known:
        print_none("no applications behind HTTP yet; let one register: bus apps sync URL")
        return
    now = now_ms()
    print_table(("app", "url", "sdk", "functions", "synced", words("state")), map(_row, known))
    for app in known:
        told_of = [worker_in_words(worker, now) for worker in connected.get(app.name, ())]
        if app.name in connected and not told_of:
            told_of = ["no worker is connected: its runs wait"]
        for told in filter(None, (*told_of, app.error, app.note)):
            say(f"{app.name}: {told}")


def _row(app: App) -> tuple[Cell, ...]:
    state = app.error_code or ("synced" if app.checksum else "syncing")
    name = app.name if app.name != app.url else "-"
    return name, app.url, sdk_in_words(app.sdk), len(app.functions), ago(app.synced) or "never", state


async def _known(wire: Wire) -> tuple[list[App], dict[str, list[Worker]]]:
    known = await registered(wire)
    return known, await connected_of(wire, known)


def _sync(which: str, *, as_json: bool) -> None:
    async def work(wire: Wire) -> App | Trouble:
        found = None if "/" in which or ":" in which else await app_of(wire, which)
        if found is not None and is_connected(found.url):
            raise ConfigError(f"the workers of app '{which}' connect by themselves, and register it when they do")
        return await sync(wire, which if found is None else found.url)

    found = once(lambda wire: acted(wire, "sync_app", which, work(wire)))
    if isinstance(found, Trouble):
        raise SyncFailed(f"{which} could not be synced: {found.words} ({found.code})")
    if as_json:
        print_json(app_told(found, None))
        return
    names = ", ".join(sorted(found.functions)) or "no function"
    say(f"{found.name} is registered, version {found.version}: {names}")
