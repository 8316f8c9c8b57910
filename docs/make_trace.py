"""Draw a trace as a tree, of spans that a run has really made: python -m docs.make_trace writes docs/trace.svg.

A shop takes an order: its request publishes an event, whose run draws a label (the printer fails once) beside weighing,
sleeps, and calls another function. Times are those of that run, so nobody compares pictures; that the tree is the one
in docs/tracing.md is looked at by a test.
"""

import asyncio
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from stepstream import Bus, Context, Retry, Step
from stepstream.bus.bus import NewEvent
from stepstream.bus.settings import Settings
from stepstream.bus.wire.wire import Wire
from stepstream.consumers.testing.scratch import scratch
from stepstream.consumers.worker import Worker, running

PICTURE = Path(__file__).parent / "trace.svg"
_ROW, _NAMES, _BARS, _PAD = 26, 300, 560, 14


class Line(NamedTuple):
    """A span in its tree: how deep, when it began after the first one (ms), and how long it took."""

    depth: int
    name: str
    began: float
    took: float
    has_failed: bool


def lines_of(spans: Sequence[Any]) -> list[Line]:
    """Return the spans of one trace as a tree, each behind its parent, siblings by when they began."""
    below: dict[int | None, list[Any]] = {}
    for span in sorted(spans, key=lambda span: span.start_time):
        below.setdefault(span.parent.span_id if span.parent is not None else None, []).append(span)
    first = min(span.start_time for span in spans)

    def walked(parent: int | None, depth: int) -> list[Line]:
        found: list[Line] = []
        for span in below.get(parent, []):
            began, took = (span.start_time - first) / 1e6, (span.end_time - span.start_time) / 1e6
            found.append(Line(depth, span.name, began, took, span.status.status_code is StatusCode.ERROR))
            found += walked(span.context.span_id, depth + 1)
        return found

    return walked(None, 0)


def text_of(lines: Sequence[Line]) -> str:
    """Return a tree without its times, which differ from run to run."""
    return "".join(f"{'  ' * one.depth}{one.name}{'  (error)' if one.has_failed else ''}\n" for one in lines)


def picture_of(lines: Sequence[Line]) -> str:
    """Return a tree as SVG: a row for each span, its bar at its time."""
    whole = max(one.began + one.took for one in lines) or 1.0
    height = _ROW * len(lines) + 2 * _PAD
    rows: list[str] = []
    for place, one in enumerate(lines):
        y = _PAD + place * _ROW
        x, width = _NAMES + _BARS * one.began / whole, max(2.0, _BARS * one.took / whole)
        kind = "bad" if one.has_failed else "good"
        rows.append(
            f'<text x="{_PAD + 16 * one.depth}" y="{y + 17}">{html.escape(one.name)}</text>'
            f'<rect class="{kind}" x="{x:.1f}" y="{y + 5}" width="{width:.1f}" height="14" rx="2"/>'
            f'<text class="took" x="{_NAMES + _BARS + _PAD}" y="{y + 17}">{one.took:.1f} ms</text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_NAMES + _BARS + 110} {height}" role="img" '
        'aria-label="A trace as a tree">'
        "<style>text{font:13px system-ui,sans-serif;fill:#1c2b33}.took{fill:#5b6b73}.good{fill:#12908e}"
        ".bad{fill:#c0392b}.back{fill:#fff}</style>"
        f'<rect class="back" width="100%" height="100%"/>{"".join(rows)}</svg>\n'
    )


class _Kept(InMemorySpanExporter):
    """Keeps spans; the run's own comes last."""

    def __init__(self) -> None:
        super().__init__()
        self.has_ended = asyncio.Event()

    def export(self, spans: Sequence[Any]) -> Any:
        if spans[0].name == "shop-ship-order":
            self.has_ended.set()
        return super().export(spans)


async def traced() -> list[Any]:
    """Let a shop take an order, on a server of its own; return the spans."""
    app, kept, tried = Bus("shop"), _Kept(), list[int]()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("shop")

    async def print_label() -> str:
        with tracer.start_as_current_span("POST printer"):
            await asyncio.sleep(0.02)
        tried.append(1)
        if len(tried) == 1:
            raise ConnectionError("no paper")
        return "label-7"

    async def weigh() -> int:
        await asyncio.sleep(0.03)
        return 995

    @app.function("ship-order", on="order/paid", retries=Retry(3, backoff=0.05))
    async def ship_order(ctx: Context[dict[str, Any]], step: Step) -> None:  # noqa: ARG001
        await step.run("print-label", print_label)
        await step.run("weigh", weigh)
        await step.sleep("cool-down", 0.08)
        await step.invoke("thank", thank, {})

    @app.function("thank")
    async def thank(ctx: Context[dict[str, Any]], step: Step) -> None:  # noqa: ARG001
        await step.run("mail", asyncio.sleep, 0.02)

    with scratch() as url:
        settings = Settings(redis_url=url)
        wire = Wire(settings, "trace")
        async with running(Worker(app, settings=settings, tracer_provider=provider)):
            app.connect(wire)
            with tracer.start_as_current_span("POST /orders"):
                await app.publish([NewEvent("order/paid", {})])
            await kept.has_ended.wait()
        await wire.close()
    return list(kept.get_finished_spans())


def main() -> None:
    """Draw it."""
    PICTURE.write_text(picture_of(lines_of(asyncio.run(traced()))))


if __name__ == "__main__":
    main()
