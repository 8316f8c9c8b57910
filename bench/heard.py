"""What it costs a worker that its signals are counted: `python -m bench.heard`.

The signals of a run, and of a step, are sent again and again: to nobody, and to what counts at `--metrics-port`. Told
is the CPU time for one, the least of some series: what else the machine does only adds to it. No server is needed.
"""

import time
from collections.abc import Callable

from prometheus_client import generate_latest
from rich.console import Console

from stepstream.bus.observe.signals import RunEnded, RunStarted, Signals, StepSaved
from stepstream.consumers.monitoring.counted import Counted
from stepstream.consumers.standing import Standing

SERIES, EACH = 15, 20_000


def _run(signals: Signals) -> None:
    if signals.run_started:
        signals.run_started.send(RunStarted("bench-noop", "r", 1, 2))
    if signals.run_ended:
        signals.run_ended.send(RunEnded("bench-noop", "r", "completed", "", "", 5))


def _step(signals: Signals) -> None:
    if signals.step_saved:
        signals.step_saved.send(StepSaved("bench-five", "r", "a", 3, "run"))


def _least_us(once: Callable[[Signals], None], signals: Signals) -> float:
    took: list[float] = []
    for _ in range(SERIES):
        began = time.process_time()
        for _ in range(EACH):
            once(signals)
        took.append((time.process_time() - began) / EACH * 1e6)
    return min(took)


def main() -> None:
    """Measure and print."""
    unheard, heard = Signals(), Signals()
    counted = Counted(heard, lambda: Standing(100, 0, 0, ""))
    for what, once in (("a run's start and end", _run), ("a step", _step)):
        nobody, counts = _least_us(once, unheard), _least_us(once, heard)
        Console().print(f"{what}: {nobody:.2f} µs unheard, {counts:.2f} µs counted")
    began = time.process_time()
    lines = len(generate_latest(counted).splitlines())  # pyright: ignore[reportArgumentType] - it only collects
    Console().print(f"a scrape of {lines} lines: {(time.process_time() - began) * 1e3:.1f} ms")


if __name__ == "__main__":
    main()
