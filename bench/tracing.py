"""What traces cost a worker: `python -m bench.tracing [--pairs N]`.

One server and one process; slices of runs come in turns: without a tracer provider, with one whose spans go nowhere
(what making them costs), with one whose sampler keeps none, and without one again (what the measuring is worth).
Told is the CPU of this process for a run, and by how much the slices of a pair differ from those without.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from rich.console import Console
from rich.table import Table

from bench.app import app
from bench.facts import PARTS, told
from bench.store import client_of
from stepstream.bus.bus import NewEvent
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.consumers.worker import Worker, running
from stepstream.web.dev.embedded import embedded

_RUNS = 2_000


class _Nowhere(InMemorySpanExporter):
    """Takes spans, and keeps none."""

    def export(self, spans: Any) -> Any:
        made = super().export(spans)
        self.clear()
        return made


def _providers() -> dict[str, TracerProvider | None]:
    heard, off = TracerProvider(), TracerProvider(sampler=ALWAYS_OFF)
    for one in (heard, off):
        one.add_span_processor(BatchSpanProcessor(_Nowhere()))
    return {"nobody": None, "nobody, again": None, "heard": heard, "none sampled": off}


async def _cost(client: Any, settings: Settings, wire: Wire, function: str, provider: TracerProvider | None) -> float:
    """Return the CPU of this process for one run of a slice, µs."""
    client.flushdb()
    async with running(Worker(app, settings=settings, tracer_provider=provider)):
        app.connect(wire)
        before = time.process_time()
        for start in range(0, _RUNS, 1_000):
            await app.publish([NewEvent(f"bench/{function}", {"n": start + n}) for n in range(1_000)])
        while client.zcard(keys.runs(f"bench-{function}", "completed")) < _RUNS:
            await asyncio.sleep(0.02)
        return 1e6 * (time.process_time() - before) / _RUNS


async def measure(url: str, pairs: int, console: Console) -> None:
    """Print what runs cost, by who hears of them."""
    client, settings = client_of(url), Settings(redis_url=url)
    wire, providers = Wire(settings, "bench"), _providers()
    table = Table("runs", "who hears", "CPU a run", "differs by")
    for function, words in PARTS.items():
        found: dict[str, list[float]] = {name: [] for name in providers}
        for n in range(pairs + 1):
            for name, provider in providers.items():
                cost = await _cost(client, settings, wire, function, provider)
                if n:  # the first warms up
                    found[name].append(cost)
        for name, costs in found.items():
            differs = told(list(zip(costs, found["nobody"], strict=True))) if name != "nobody" else ""
            table.add_row(words, name, f"{statistics.median(costs):.0f} µs", differs)
    console.print(table)
    await wire.close()


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=12)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, embedded(Path(folder)) as server:
        uvloop.run(measure(server.url, asked.pairs, Console(width=140)))


if __name__ == "__main__":
    main()
