"""`bus serve` and `bus dev`."""

import asyncio
import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import uvloop

from stepstream.bus import settings
from stepstream.bus.loading import load
from stepstream.bus.observe import log
from stepstream.bus.process.dev_server import FOLDER, held
from stepstream.bus.process.tasks import cancelled
from stepstream.bus.settings import Settings
from stepstream.web.alerting import Alerting
from stepstream.web.app import Site, create_app
from stepstream.web.beside import WorkerBeside
from stepstream.web.paths import check_root
from stepstream.web.sdk.sync import Syncing
from stepstream.web.serving.proxies import check_believed
from stepstream.web.serving.server import Server, beside, check_address, is_loopback, run, server

if TYPE_CHECKING:
    from stepstream.web.dev.embedded import Embedded

_Host = Annotated[str, typer.Option(help="Address to listen on.")]
_Reached = Annotated[
    str,
    typer.Option(
        help="Address to listen on. One that others reach wants keys: BUS_SESSION_KEY for people, BUS_API_TOKENS for "
        "programs."
    ),
]
_Port = Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")]
_Expose = Annotated[
    bool, typer.Option("--expose", help="Listen on other addresses without keys: whoever reaches it may do all.")
]
_AllowHost = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="A host name the site answers to: shop.example, *.shop.example. May be repeated. Also BUS_ALLOW_HOSTS.",
    ),
]


_SdkUrl = Annotated[
    list[str] | None,
    typer.Option(
        "-u", "--sdk-url", metavar="URL", help="An application behind HTTP that is asked to register. May be repeated."
    ),
]


def serve(
    apps: Annotated[
        list[str] | None, typer.Argument(metavar="[APP…]", help="module:attribute; may be left out.")
    ] = None,
    host: _Reached = "127.0.0.1",
    port: _Port = 8288,
    allow_host: _AllowHost = None,
    sdk_url: _SdkUrl = None,
    root_path: Annotated[
        str, typer.Option(help="The path under which a proxy shows the site, and which it strips: for example /bus.")
    ] = "",
) -> None:
    """Serve the HTTP API and the status page: bus serve shop.functions:app.

    For people to log in: BUS_SESSION_KEY=$(openssl rand -hex 32), kept, and bus users add NAME --role admin.
    """
    configured, root_path = _settings(), check_root(root_path)
    buses = [load(app) for app in apps or []]
    log.hide(function for bus in buses for function in bus.functions.values())
    bound = check_address(host, port, exposed=configured.is_keyed)
    site = create_app(*buses, configured=configured, hosts=allow_host or ())
    where = f"{_url(host, port)}{root_path}"
    log.tell(configured.log_format, f"status page and API: {where}  (Redis: {configured.store})", page=where)
    _tell_access(configured, host, allow_host)
    log.follow(configured)
    made = server(site, configured, root_path)
    syncing = Syncing(site.state.store, [*configured.apps, *(sdk_url or ())], follows=False)
    made.beside = beside(syncing.run, Alerting(site.state.store, configured).run)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(site, made, bound))


async def _serve(site: Site, made: Server, bound: socket.socket) -> None:
    """Serve a site whose functions are registered at once: a deploy may end before the first event comes."""
    _ = site.state.store.wire  # a store of large results that makes no sense is told before anybody asks
    registering = asyncio.create_task(site.register()) if site.buses else None
    try:
        await run(made, [bound])
    finally:
        if registering is not None:
            await cancelled(registering)


def dev(
    apps: Annotated[
        list[str] | None, typer.Argument(metavar="[APP…]", help="module:attribute, for example shop:app.")
    ] = None,
    host: _Host = "127.0.0.1",
    port: _Port = 8288,
    concurrency: Annotated[int, typer.Option(min=1, help="Turns the worker runs at once.")] = 100,
    folder: Annotated[Path, typer.Option(help="Where the embedded server keeps its data.")] = FOLDER,
    expose: _Expose = False,
    allow_host: _AllowHost = None,
    sdk_url: _SdkUrl = None,
    discovery: Annotated[
        bool, typer.Option(help="Look for an application behind HTTP on this machine, when none is named.")
    ] = True,
) -> None:
    """Run everything on your machine: page, API, worker, and a Redis server, unless BUS_REDIS_URL names one.

    bus dev shop.functions:app
    """
    from stepstream.web.dev.embedded import embedded

    urls = [*(sdk_url or ())]
    discovers = discovery and not apps and not urls
    exposed = expose or settings.read(os.environ)[0].is_keyed
    if "BUS_REDIS_URL" in os.environ:
        bound = check_address(host, port, exposed=exposed)
        _dev(apps or [], host, port, concurrency, bound, allow_host, urls, discovers=discovers, redis=None)
        return
    folder = folder.resolve()
    with held(folder):  # before the port: a second one in a folder is told of that, and of both ways out
        bound = check_address(host, port, exposed=exposed)
        with embedded(folder) as redis:
            _dev(apps or [], host, port, concurrency, bound, allow_host, urls, discovers=discovers, redis=redis)


def _dev(
    apps: list[str],
    host: str,
    port: int,
    concurrency: int,
    bound: socket.socket,
    allow_host: list[str] | None,
    sdk_urls: list[str],
    *,
    discovers: bool,
    redis: "Embedded | None",
) -> None:
    from stepstream.web.dev.worker_child import WorkerChild  # it watches files, which only `bus dev` needs

    # Who changes code, or presses Ctrl-C, waits: what is not finished soon goes on in the next worker.
    environ = {"BUS_DRAIN": "2", **os.environ} | ({"BUS_REDIS_URL": redis.url} if redis else {})
    configured = _settings(environ)
    site = create_app(configured=configured, hosts=allow_host or ())

    def registered(example: dict[str, Any] | None) -> None:
        if example is not None:
            event = json.dumps(example).replace("'", "'\\''")
            key = "KEY" if configured.event_keys or configured.is_keyed else "dev"
            publish = f"curl {_url(host, port)}/e/{key} -d '{event}'"
            log.tell(configured.log_format, "an event to try it with", shown=f"  publish  {publish}", publish=publish)

    site.state.beside = WorkerBeside()
    child = WorkerChild([*apps, "--remote"], concurrency, environ, site.state.beside, registered)
    log.follow(configured)
    made = server(site, configured)
    urls, looks = [*configured.apps, *sdk_urls], discovers and not configured.apps and not configured.is_keyed
    syncing = Syncing(site.state.store, urls, follows=True, discovers=looks)
    made.beside = beside(syncing.run, Alerting(site.state.store, configured).run)
    banner = (
        f"Stepstream dev\n  page     {_url(host, port)}\n  Redis    {configured.store}\n"
        f"  code     the worker starts again when a Python file in {Path.cwd()} changes\n  stop     Ctrl-C"
    )
    fields = {"page": _url(host, port), "redis": configured.store, "code": str(Path.cwd())}
    log.tell(configured.log_format, "Stepstream dev", shown=banner, **fields)
    _tell_access(configured, host, allow_host)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(made, [bound], child, redis and redis.keep()))
    log.tell(configured.log_format, "stopped")


def _settings(environ: dict[str, str] | None = None) -> Settings:
    configured, _ = settings.read(environ)
    log.configure(configured)
    check_believed(os.environ)
    return configured


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _tell_access(configured: Settings, host: str, allow_host: list[str] | None) -> None:
    """Print what opens the site in keys mode, and where other machines may connect, the host names it answers to."""
    if configured.is_keyed:
        opens = ["BUS_SIGNING_KEY"] * bool(configured.signing_key) + ["BUS_API_TOKENS"] * bool(configured.api_tokens)
        opens += ["a log-in (bus users)"] * bool(configured.session_key)
        events = "BUS_EVENT_KEYS open /e" if configured.event_keys else "/e takes no events: BUS_EVENT_KEYS is not set"
        log.tell(configured.log_format, f"keys mode: the page and the API are opened by {' or '.join(opens)}; {events}")
    if not is_loopback(host):
        named = ", ".join(("localhost", "its own address", *configured.allow_hosts, *(allow_host or ())))
        log.tell(configured.log_format, f"answers to {named}; add other names with --allow-host NAME")
