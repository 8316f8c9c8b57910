"""What it costs Redis to count runs by the minute: `python -m bench.facts [--runs N] [--pairs N]`.

The same runs, once as they are and once by scripts that count nothing (fragment `facts` is left out, here only), in
turns; told is the CPU that the server's main thread has taken for a run, and the median of what each pair differs by.
A server's CPU is its own: what else the machine does changes it little. In `bulk` many runs wait when the worker comes,
so a call of a script is about many; in `one by one` each is about one, which is the dearest.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.app import app
from bench.store import client_of
from stepstream.bus import cli
from stepstream.bus.bus import NewEvent
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys, scripts
from stepstream.bus.wire.wire import Wire
from stepstream.web.dev.embedded import embedded

_NOTHING = """-- facts: nothing is counted
local failed = {}
local function count_run() end
local function tell_facts() end
"""
_MOST_PERCENT = 3.0
_BETWEEN_S = 0.004
PARTS = {"noop": "runs without a step", "five": "runs of five steps"}


def without_facts() -> None:
    """Let the scripts of this process count nothing."""
    fragment = scripts.Script._fragment  # noqa: SLF001 - nobody else leaves a part of a script out

    def of_nothing(self: scripts.Script, name: str) -> str:
        return _NOTHING if name == "facts" else fragment(self, name)

    scripts.Script._fragment = of_nothing  # type: ignore[method-assign]  # noqa: SLF001


def _cpu(client: Any) -> float:
    info = client.info("cpu")
    return 1e6 * (info["used_cpu_user_main_thread"] + info["used_cpu_sys_main_thread"])


async def _worker(url: str, how: str) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.facts", "worker", how,
        env={**os.environ, "BUS_REDIS_URL": url}, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    while b" works on " not in (line := await process.stderr.readline()):
        if not line:
            raise RuntimeError(f"the worker has ended with {await process.wait()}")
    return process


async def _publish(name: str, runs: int, *, is_bulk: bool) -> None:
    if is_bulk:
        for start in range(0, runs, 1_000):
            await app.publish([NewEvent(name, {"n": n}) for n in range(start, min(runs, start + 1_000))])
    for n in range(0 if is_bulk else runs):
        await app.send(name, {"n": n})
        await asyncio.sleep(_BETWEEN_S)


async def cost(url: str, function: str, runs: int, how: str, *, is_bulk: bool) -> float:
    """Return the CPU of the server for a run, µs."""
    client = client_of(url)
    client.flushall()
    registered = await _worker(url, how)  # groups begin where triggers were registered: before what is published
    if is_bulk:
        registered.terminate()
        await registered.wait()
        await _publish(f"bench/{function}", runs, is_bulk=True)
    before = _cpu(client)
    process = await _worker(url, how) if is_bulk else registered
    if not is_bulk:
        await _publish(f"bench/{function}", runs, is_bulk=False)
    while client.zcard(keys.runs(f"bench-{function}", "completed")) < runs:
        await asyncio.sleep(0.1)
    spent = _cpu(client) - before
    process.terminate()
    await process.wait()
    assert bool(client.keys("*:minute:*")) == (how == "on")
    return spent / runs


async def measure(url: str, runs: int, pairs: int, console: Console) -> None:
    """Print what each part costs with and without."""
    wire = Wire(Settings(redis_url=url), "bench")
    app.connect(wire)
    table = Table("runs", "CPU of Redis a run", "without counting", "pairs differ by", "of", "at most")
    for is_bulk in (True, False):
        for function, words in PARTS.items():
            count = runs if is_bulk else runs // 5
            costs: dict[str, list[float]] = {"on": [], "off": []}
            for n in range(pairs):
                for how in ("on", "off") if n % 2 else ("off", "on"):
                    costs[how].append(await cost(url, function, count, how, is_bulk=is_bulk))
            differ = [100 * (on / off - 1) for on, off in zip(costs["on"], costs["off"], strict=True)]
            on, off = (statistics.median(costs[how]) for how in ("on", "off"))
            console.print(f"{words}: {', '.join(f'{one:+.1f} %' for one in differ)}", style="dim")
            table.add_row(
                f"{words}, {'bulk' if is_bulk else 'one by one'}", f"{on:.1f} µs", f"{off:.1f} µs",
                f"{statistics.median(differ):+.1f} %", f"{min(differ):+.1f} … {max(differ):+.1f} %",
                f"{_MOST_PERCENT:.0f} %",
            )  # fmt: skip
    console.print(table)
    await wire.close()


def main() -> None:
    """Measure; or, as `worker on|off`, be the worker."""
    if sys.argv[1:2] == ["worker"]:
        if sys.argv[2] == "off":
            without_facts()
        sys.argv[1:] = ["worker", "bench.app:app"]
        cli.main()
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5_000)
    parser.add_argument("--pairs", type=int, default=9)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, embedded(Path(folder)) as server:
        asyncio.run(measure(server.url, asked.runs, asked.pairs, Console(width=140)))


if __name__ == "__main__":
    main()
