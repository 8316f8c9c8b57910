"""What it costs Redis to count runs by the minute: `python -m bench.facts [--pairs N]`.

One server and one worker; slices of some hundred runs come in turns as they are and by scripts that count nothing
(fragment `facts` is left out, here only): two slices of a pair are half a second apart, so what else the machine does,
and how much the store holds, is the same for both. Told is the CPU that the server's main thread has taken for a run,
with its event, and by how much the slices of a pair differ: the median of all pairs, and where the true one lies with
95 %. `both counted` are pairs of which each slice is counted: what the measuring itself is worth.
In `bulk` runs come by the thousand: a call of a script is about many; in `one by one` each is about one: the dearest.
"""

import argparse
import asyncio
import statistics
import tempfile
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from bench.app import app
from bench.store import client_of
from stepstream.bus.bus import NewEvent
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys, scripts
from stepstream.bus.wire.wire import Wire
from stepstream.consumers.worker import Worker
from stepstream.web.dev.embedded import embedded

_NOTHING = """-- facts: nothing is counted
local failed
local function count_run() end
local function tell_facts() end
"""
_MOST_PERCENT = 3.0
_BETWEEN_S = 0.004
_LOOKED_EVERY_S = 0.02
_ONES, _BULK = 100, 1_000
"""Runs of a slice."""
PARTS = {"noop": "runs without a step", "five": "runs of five steps"}


class Both:
    """The scripts that count, as they are and without: one of the two is what is called."""

    def __init__(self, client: Any) -> None:
        """Load both into the server: some are called by their SHA-1 only."""
        self._texts: dict[scripts.Script, dict[bool, str]] = {}
        for script in scripts.registered():
            facts = [part for part in script.parts if part.startswith("-- facts:")]
            if facts:
                self._texts[script] = {True: script.text, False: script.text.replace(facts[0], _NOTHING)}
        for texts in self._texts.values():
            for text in texts.values():
                client.script_load(text)

    def count(self, how: bool) -> None:
        """Let runs be counted from now on, or not."""
        for script, texts in self._texts.items():
            vars(script).pop("sha", None)
            vars(script)["text"] = texts[how]


class Slices:
    """Runs by the slice, on one server with one worker in this process."""

    def __init__(self, client: Any, both: Both) -> None:
        self._client = client
        self._both = both
        self._done = dict.fromkeys(PARTS, 0)

    def _cpu(self) -> float:
        info = self._client.info("cpu")
        return 1e6 * (info["used_cpu_user_main_thread"] + info["used_cpu_sys_main_thread"])

    async def cost(self, function: str, *, counted: bool, is_bulk: bool) -> float:
        """Let a slice of runs begin and end; return the CPU of the server for each, with its event, µs."""
        self._both.count(counted)
        runs, before = _BULK if is_bulk else _ONES, self._cpu()
        for start in range(0, runs if is_bulk else 0, 1_000):
            await app.publish([NewEvent(f"bench/{function}", {"n": start + n}) for n in range(1_000)])
        for n in range(0 if is_bulk else runs):
            await app.send(f"bench/{function}", {"n": n})
            await asyncio.sleep(_BETWEEN_S)
        self._done[function] += runs
        index = keys.runs(f"bench-{function}", "completed")
        while self._client.zcard(index) < self._done[function]:
            await asyncio.sleep(_LOOKED_EVERY_S)
        return (self._cpu() - before) / runs

    async def pairs(self, function: str, count: int, *, is_bulk: bool, against: bool) -> list[tuple[float, float]]:
        """Return what runs cost that are counted, each beside what such cost that are counted only if `against`."""
        found: list[tuple[float, float]] = []
        for n in range(count):
            first = await self.cost(function, counted=bool(n % 2) or against, is_bulk=is_bulk)
            second = await self.cost(function, counted=not n % 2 or against, is_bulk=is_bulk)
            found.append((first, second) if n % 2 else (second, first))
        return found


def told(pairs: list[tuple[float, float]]) -> str:
    """Return by how much pairs differ: the median, and where the true one lies with 95 %, by their order alone."""
    differ, away = sorted(100 * (one / other - 1) for one, other in pairs), 0.98 * len(pairs) ** 0.5
    low, high = differ[max(0, int(len(differ) / 2 - away))], differ[min(len(differ) - 1, int(len(differ) / 2 + away))]
    return f"{statistics.median(differ):+.1f} % ({low:+.1f} … {high:+.1f})"


async def measure(url: str, count: int, console: Console) -> None:
    """Print what each part costs with and without."""
    client, settings = client_of(url), Settings(redis_url=url)
    wire = Wire(settings, "bench")
    app.connect(wire)
    worker = Worker(app, settings=settings)
    working = asyncio.create_task(worker.run())
    await worker.ready.wait()
    slices = Slices(client, Both(client))
    table = Table("runs", "CPU of Redis a run", "not counted", "pairs differ by", "both counted", "at most")
    for is_bulk in (False, True):
        for function, words in PARTS.items():
            await slices.cost(function, counted=True, is_bulk=is_bulk)
            pairs = await slices.pairs(function, count, is_bulk=is_bulk, against=False)
            same = await slices.pairs(function, count // 3, is_bulk=is_bulk, against=True)
            on, off = (statistics.median(costs) for costs in zip(*pairs, strict=True))
            name = f"{words}, {'bulk' if is_bulk else 'one by one'}"
            console.print(f"{name}: {told(pairs)}", style="dim")
            table.add_row(name, f"{on:.1f} µs", f"{off:.1f} µs", told(pairs), told(same), f"{_MOST_PERCENT:.0f} %")
    console.print(table)
    worker.stop()
    await working
    await wire.close()


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=60)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, embedded(Path(folder)) as server:
        uvloop.run(measure(server.url, asked.pairs, Console(width=160)))


if __name__ == "__main__":
    main()
