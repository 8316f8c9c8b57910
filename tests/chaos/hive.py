"""Forks workers of an application that is loaded already: a kill costs milliseconds, not a second of start-up.

With the word `schedulers` what it forks only ticks, by a clock that stands in Redis; with `gale`, it is a worker of that
application; with `remote`, `bus worker --remote`, whose waits between attempts are a fiftieth of what they are, so that
a storm of a quarter of a minute has those of ten.

Reads "spawn" from standard input, answers the new worker's pid; ends, with all its workers, when standard input does.
"""

import asyncio
import gc
import os
import signal
import sys

import uvloop

from stepstream import Worker
from stepstream.bus import retry
from stepstream.bus.cron import Cron
from stepstream.bus.observe import log
from stepstream.bus.observe.signals import Signals
from stepstream.bus.settings import read
from stepstream.bus.wire.wire import Wire
from stepstream.consumers.following import RemoteWorkers
from stepstream.producers.cron import tick
from tests.chaos import gale_app, storm_app

APP = gale_app.app if "gale" in sys.argv else storm_app.app
CLOCK = "storm:clock"


def work() -> None:
    """Be a worker until killed."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.close(0)
    signals = Signals()
    log.listen(signals)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if "remote" in sys.argv:
            retry._TABLE_MS = tuple(ms // 50 for ms in retry._TABLE_MS)
            retry._TABLE_JITTER_MS //= 50
            runner.run(RemoteWorkers(read()[0], concurrency=20, signals=signals).run())
        else:
            runner.run(Worker(APP, settings=read()[0], concurrency=20, signals=signals).run())


async def _schedule() -> None:
    wire = Wire(read()[0], "scheduler")
    while True:
        now = await wire.call("GET", CLOCK)
        if now is not None:
            wire.now = now.decode()
            await tick(wire, "storm-ticked", Cron("* * * * *"), Signals())
        await asyncio.sleep(0.001)


def schedule() -> None:
    """Be a scheduler until killed."""
    os.close(0)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_schedule())


def main() -> None:
    """Fork on request."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    log.configure(read()[0])
    gc.freeze()
    for line in sys.stdin:
        assert line.strip() == "spawn", line
        pid = os.fork()
        if pid == 0:
            try:
                schedule() if "schedulers" in sys.argv else work()
            finally:
                os._exit(0)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
