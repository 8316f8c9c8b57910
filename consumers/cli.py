"""`bus worker`."""

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Annotated

import anyio
import msgspec
import typer
import uvloop

from stepstream.bus import environment, settings
from stepstream.bus.bus import Bus
from stepstream.bus.errors import BusError, ConfigError, StoreUnavailable
from stepstream.bus.loading import load
from stepstream.bus.observe import log, otel, unawaited
from stepstream.bus.observe.signals import Signals
from stepstream.bus.process.importing import NoSuchName
from stepstream.bus.process.tasks import raised
from stepstream.bus.settings import Settings
from stepstream.bus.values import codec
from stepstream.bus.values.example import example_of
from stepstream.consumers.following import RemoteWorkers
from stepstream.consumers.monitoring.monitoring import Monitoring
from stepstream.consumers.monitoring.server import check_free
from stepstream.consumers.standing import Standing, together
from stepstream.consumers.worker import LAST_S, Worker

LEFT_WORK = 3
"""The exit code of a worker that was told to stop and left work to others."""
_GC_THRESHOLD = 20_000


def worker(
    apps: Annotated[
        list[str] | None, typer.Argument(metavar="[APP…]", help="module:attribute, for example shop.functions:app.")
    ] = None,
    remote: Annotated[
        bool, typer.Option("--remote", help="Run the functions of applications behind HTTP, too: see bus apps.")
    ] = False,
    concurrency: Annotated[int, typer.Option(min=1, help="Turns it runs at once: its slots.")] = 100,
    processes: Annotated[int, typer.Option(min=1, help="Worker processes, each with that many slots.")] = 1,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            "--metrics-port",
            min=0,
            max=settings.LAST_PORT,
            help="Answer /metrics, /health and /ready there; 0: any free port. (BUS_METRICS_PORT)",
        ),
    ] = None,
    metrics_host: Annotated[
        str | None, typer.Option("--metrics-host", help="At this address; it asks for no key. (BUS_METRICS_HOST)")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse unknown BUS_… variables.")] = False,
    while_stdin: Annotated[bool, typer.Option("--while-stdin", hidden=True)] = False,
    tells: Annotated[int, typer.Option("--tells", hidden=True)] = -1,
) -> None:
    """Run an application's functions until SIGTERM or Ctrl-C, then finish what is in hand. A second ends at once.

    The exit code is 3 when the time to finish (BUS_DRAIN) did not suffice: what was left goes on in another worker.
    bus worker shop.functions:app --concurrency 50
    """
    apps = apps or []
    if not apps and not remote:
        raise ConfigError("which functions? write bus worker shop.functions:app, or --remote for those behind HTTP")
    configured, _ = settings.read(strict=strict)
    given = {"metrics_port": metrics_port, "metrics_host": metrics_host}
    configured = msgspec.structs.replace(configured, **{name: one for name, one in given.items() if one is not None})
    if processes > 1:
        more = [*apps, *(["--remote"] if remote else []), *(["--strict"] if strict else [])]
        raise typer.Exit(_several(more, concurrency, processes, configured))
    log.configure(configured)
    unawaited.tell()
    try:
        buses = [worked(app) for app in apps]
        log.hide(function for bus in buses for function in bus.functions.values())
        log.follow(configured)
        service = ", ".join(bus.id for bus in buses) or "stepstream"
        with (
            otel.exporting(service, environment.of_otel()),
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            runner.run(_work(buses, configured, concurrency, remote=remote, while_stdin=while_stdin, tells=tells))
    except BusError as error:
        _tell(tells, {"error": str(error), "exists": not isinstance(error, NoSuchName)})
        if tells >= 0 and isinstance(error, NoSuchName):
            raise typer.Exit(1) from None  # bus dev says why
        raise


def worked(app: str) -> Bus:
    """Load a bus whose functions a worker runs; ConfigError for one that is served to be called over HTTP."""
    bus = load(app)
    if any(function.is_remote for function in bus.functions.values()):
        raise ConfigError(
            f"{app} is served with called=True: its functions are called over HTTP, where that application runs, and "
            "no worker loads their code. Start bus worker --remote for it (bus dev has one: bus dev -u URL); or serve "
            "it without called=True, and run it here"
        )
    return bus


def _tell(file: int, told: dict[str, object]) -> None:
    """Tell `bus dev`, which has started this worker, what became of it."""
    if file >= 0:
        with contextlib.suppress(OSError):
            os.write(file, codec.encode(told) + b"\n")


async def _work(
    buses: list[Bus], configured: Settings, concurrency: int, *, remote: bool, while_stdin: bool, tells: int
) -> None:
    signals = Signals()
    log.listen(signals, debug=configured.log_level == "debug")
    here = Worker(*buses, settings=configured, concurrency=concurrency, signals=signals) if buses else None
    followers = RemoteWorkers(configured, concurrency, signals) if remote else None
    working = [one for one in (here, followers) if one is not None]
    if configured.metrics_port is not None:  # as long as the process lives: also while it drains
        watched = Monitoring(configured, configured.metrics_port, signals, partial(_stand, working))
        log.tell(configured.log_format, f"metrics are at {watched.url}/metrics", url=watched.url)

    def asked_to_stop() -> None:
        if stops:
            os._exit(130)
        stops.append(True)
        ends.within(configured.drain_ms / 1_000 + LAST_S)
        log.tell(configured.log_format, "draining; a second signal ends at once")
        stop()

    def stop() -> None:
        for one in working:
            one.stop()

    stops: list[bool] = []
    ends = _Deadline(configured.log_format)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked_to_stop)
    if while_stdin:  # bus dev holds the other end: when it dies, however it dies, so do we
        loop.add_reader(sys.stdin.fileno(), stop)
    drained = asyncio.create_task(_told_to_drain(working, lambda: stops or asked_to_stop()))
    running = asyncio.create_task(_run_all(working))
    ready = asyncio.create_task(_all_ready(working))
    await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED)
    if ready.done():
        # What is loaded stays: the collector need not look at it again at every few hundred allocations.
        gc.freeze()
        gc.set_threshold(_GC_THRESHOLD)
        for line in _told(here, followers, buses):
            log.tell(configured.log_format, line)
        _tell(tells, {"ready": True, "example": _example(buses)})
    ready.cancel()
    try:
        await running
        drained.cancel()
    except (BusError, BaseExceptionGroup) as ended:
        _raise(raised(ended), configured.log_format, is_stopped=bool(stops))
    left = sum(one.left for one in working)
    ends.code = LEFT_WORK if left else 0
    if left:
        some = f"{left} turns were" if left > 1 else "1 turn was"
        log.tell(configured.log_format, f"{some} not finished within BUS_DRAIN; another worker goes on from there")
        if any(one.stuck for one in working):  # before a lease of theirs runs out
            ends.now()
        raise SystemExit(LEFT_WORK)


def _stand(working: Sequence[Worker | RemoteWorkers]) -> Standing:
    return together([one.stands() for one in working])


def _raise(errors: Sequence[BaseException], log_format: str, *, is_stopped: bool) -> None:
    """Raise the error that has ended the workers: one that is not ours first; the others are a line each.

    That the store is away while they stop is none.
    """
    counting = [one for one in errors if not (is_stopped and isinstance(one, StoreUnavailable))]
    counting.sort(key=lambda one: isinstance(one, BusError))
    for words in list(dict.fromkeys(str(one) for one in counting))[1:]:
        log.tell(log_format, words, level="error")
    if counting:
        raise counting[0] from None


async def _run_all(working: Sequence[Worker | RemoteWorkers]) -> None:
    """Run what works side by side; the first error ends the others."""
    async with anyio.create_task_group() as tasks:
        for one in working:
            tasks.start_soon(one.run)


async def _told_to_drain(working: Sequence[Worker | RemoteWorkers], stop: Callable[[], object]) -> None:
    """Stop the process when one of them was told to drain: it is listed as a worker, and a worker is a process."""
    waits = [asyncio.ensure_future(one.drains.wait()) for one in working]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        stop()
    finally:
        for one in waits:
            one.cancel()


async def _all_ready(working: Sequence[Worker | RemoteWorkers]) -> None:
    for (
        one
    ) in working:  # not by asyncio.gather: cancelled at the end of a worker that may not start, it logs a traceback
        await one.ready.wait()


def _told(here: Worker | None, followers: RemoteWorkers | None, buses: list[Bus]) -> Iterator[str]:
    """Say what a person is told when all are ready, a line each."""
    if here is not None:
        names = ", ".join(log.some_of(sorted(function.slug for bus in buses for function in bus.functions.values())))
        yield f"worker {here.name} works on {names}"
    if followers is not None:
        names = ", ".join(log.some_of(followers.names)) or "none yet"
        yield f"worker works on applications behind HTTP, and follows them: {names}"


class _Deadline:
    """Ends this process with `code`, whatever its threads do: the interpreter would wait for each to return."""

    def __init__(self, log_format: str) -> None:
        self.code = LEFT_WORK
        self._log_format = log_format

    def within(self, seconds: float) -> None:
        """So long has it at most from now on."""
        threading.Thread(target=self._end, args=(seconds,), name="bus-deadline", daemon=True).start()

    def _end(self, seconds: float) -> None:
        time.sleep(seconds)
        self.now()

    def now(self) -> None:
        """End at once."""
        log.tell(self._log_format, "a thread does not end: the process ends without it", level="warning")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(self.code)


def _example(buses: list[Bus]) -> dict[str, object] | None:
    """Return an event that starts a function, to try it with: of the first one that has one, with a type rather."""
    triggers = [one for bus in buses for function in bus.functions.values() for one in function.triggers]
    for one in sorted((one for one in triggers if not one.name.startswith("bus/")), key=lambda one: one.kind is None):
        return {"name": one.name.replace("*", "x"), "data": example_of(one.kind) if one.kind else {}}
    return None


def _several(more: list[str], concurrency: int, processes: int, configured: Settings) -> int:
    """Keep several worker processes: one that dies is started again after a second; a signal goes to all.

    What makes no sense is an error of the first, here: it would end each of them, again and again.
    """
    command = [sys.executable, "-m", "stepstream", "worker", *more, "--concurrency", str(concurrency)]
    ports = ports_of(configured, processes)
    commands = [[*command, *(["--metrics-port", str(port)] if port is not None else [])] for port in ports]
    commands = [[*one, "--metrics-host", configured.metrics_host] for one in commands]
    children = [subprocess.Popen(one) for one in commands]
    asked = 0

    def passed_on(number: int, _frame: object) -> None:
        nonlocal asked
        asked += 1
        for child in children:
            if child.poll() is None:
                child.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, passed_on)
    while any(child.poll() is None for child in children) or not asked:
        time.sleep(1.0)
        for place, child in enumerate(children):
            if child.poll() is not None and not asked:
                words = f"a worker process ended with {child.returncode}; it is started again"
                log.tell(configured.log_format, words, level="warning")
                children[place] = subprocess.Popen(commands[place])
    return max(abs(child.returncode or 0) for child in children)


def ports_of(configured: Settings, processes: int) -> list[int | None]:
    """Return the metrics port of each process; ConfigError when one cannot be had."""
    first = configured.metrics_port
    if not first:  # none, or any free one
        return [first] * processes
    if first + processes - 1 > settings.LAST_PORT:
        raise ConfigError(
            f"--metrics-port (BUS_METRICS_PORT) {first}: {processes} processes take the ports up to "
            f"{first + processes - 1}, and there are {settings.LAST_PORT}"
        )
    ports = range(first, first + processes)
    check_free(configured.metrics_host, ports)
    return [*ports]
