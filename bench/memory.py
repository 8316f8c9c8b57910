"""Bytes of Redis a finished run keeps, with and without the setting `bus doctor` advises: `make bench`'s last table.

The events here carry 260 B of data; the event's stream entry is not counted (it is kept 3 days, the run 7), nor is the
pending entry, which is gone with the acknowledgement.
"""

import asyncio
import tempfile
from pathlib import Path
from typing import Any, cast

import uvloop
from rich.console import Console
from rich.table import Table

from bench.app import app
from stepstream.bus.bus import NewEvent
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.bus.wire.streams import fields_of
from stepstream.bus.wire.wire import Wire
from stepstream.consumers.worker import Worker, running
from stepstream.web.dev.embedded import embedded

RUNS = 4_000
DATA = {"text": "x" * 249}


async def bytes_per_run(url: str, function: str, listpack: int) -> float:
    """Return what a finished run takes, bytes, by the server's own account."""
    wire = Wire(Settings(redis_url=url), "memory")
    await wire.call("FLUSHALL")
    await wire.call("CONFIG", "SET", "hash-max-listpack-value", listpack)
    async with running(Worker(app, settings=Settings(redis_url=url))):
        app.connect(wire)
        for _ in range(RUNS // 1_000):
            await app.publish([NewEvent(f"bench/{function}", DATA)] * 1_000)
        while await wire.call("ZCARD", keys.runs(f"bench-{function}", "completed")) < RUNS:
            await asyncio.sleep(0.05)
    await wire.call("DEL", keys.events(f"bench/{function}"))
    before, tables = await _used(wire), await _tables(wire)
    slug = f"bench-{function}"
    index = keys.runs(slug, "completed")
    for run in await wire.call("ZRANGE", index, 0, -1):
        wire.call("DEL", keys.run(slug, run.decode()), keys.steps(slug, run.decode()))
    await wire.call("DEL", index)
    kept = (before - await _used(wire) + tables) / RUNS
    await wire.close()
    return kept


async def _used(wire: Wire) -> int:
    """Return the bytes of the data set: what is used, less what connections, buffers and the tables of keys take."""
    while True:
        info: bytes = await wire.call("INFO", "memory")
        fields = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
        if int(fields["lazyfree_pending_objects"]) == 0:  # what was deleted is freed by a thread of the server
            return int(fields["used_memory_dataset"])
        await asyncio.sleep(0.01)


async def _tables(wire: Wire) -> int:
    """Return the bytes of the tables of keys and of their expiries."""
    stats = fields_of(await wire.call("MEMORY", "STATS"))
    of_db = fields_of(cast("Any", stats[b"db.0"]))
    return int(of_db[b"overhead.hashtable.main"]) + int(of_db[b"overhead.hashtable.expires"])


async def measure(url: str) -> None:
    """Measure and print."""
    table = Table("kept of a finished run, 260 B event", "default", "listpack 1024", box=None, pad_edge=False)
    for function, label in (("noop", "no step"), ("five", "five steps")):
        sizes = [await bytes_per_run(url, function, listpack) for listpack in (64, 1_024)]
        table.add_row(label, *(f"{size:,.0f} B" for size in sizes))
    Console().print(table)


def main() -> None:
    """Start a server of our own and measure on it."""
    with tempfile.TemporaryDirectory() as folder, embedded(Path(folder)) as server:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(measure(server.url))


if __name__ == "__main__":
    main()
