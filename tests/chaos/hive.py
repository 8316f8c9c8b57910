"""Forks workers of an application that is loaded already: a kill costs milliseconds, not a second of start-up.

Reads "spawn" from standard input, answers the new worker's pid; ends, with all its workers, when standard input does.
"""

import asyncio
import gc
import os
import signal
import sys

import uvloop

from bus.observe import log
from bus.settings import read
from consumers import Worker
from tests.chaos.storm_app import app


def work() -> None:
    """Be a worker until killed."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.close(0)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Worker(app, settings=read()[0], concurrency=20).run())


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
                work()
            finally:
                os._exit(0)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
