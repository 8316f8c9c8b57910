"""Traces: what a run does is told as spans of one trace, each once, whichever workers do it and whenever."""

import asyncio
import json
import logging
import os
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import anyio.to_thread
import httpx2
import msgspec
import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanContext, SpanKind, StatusCode
from starlette.applications import Starlette

from docs.make_trace import lines_of, picture_of, text_of, traced
from stepstream import Batch, Bus, Context, Cron, Harness, NonRetriable, Retry, Step, StepFailed, create_app
from stepstream.bus.bus import NewEvent
from stepstream.bus.errors import ConfigError
from stepstream.bus.event import EventData, RawEvent
from stepstream.bus.observe.otel import tracing_of
from stepstream.bus.observe.traceparent import parsed, shown_trace
from stepstream.bus.process.scope import in_run
from stepstream.bus.settings import read
from stepstream.bus.values import codec
from stepstream.checkpoint.actions.cancel import cancel
from stepstream.checkpoint.cli.shown import show_lines
from stepstream.checkpoint.read.run.log import log_of
from stepstream.checkpoint.run.record import Run
from stepstream.checkpoint.waits.signals import send_signal
from stepstream.consumers.worker import Worker, running
from tests import forks
from tests.support import ROOT, Lab, eventually

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GIVEN = f"00-{TRACE}-{SPAN}-01"


class Heard:
    """A tracer provider that keeps what it is told."""

    def __init__(self) -> None:
        self._kept = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._kept))
        self.tracer = self.provider.get_tracer("tests")

    @property
    def spans(self) -> list[Any]:
        return list(self._kept.get_finished_spans())

    def one(self, name: str) -> Any:
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def about(self, name: str, attribute: str) -> object:
        return dict[str, object](self.one(name).attributes).get(f"stepstream.{attribute}")

    def tree(self) -> dict[str, str]:
        """Return the name of each span with that of its parent: empty for none, its id for one that is elsewhere."""
        names = {span.context.span_id: span.name for span in self.spans}
        assert len(names) == len(self.spans), f"a span was told twice: {[span.name for span in self.spans]}"
        return {
            span.name: "" if span.parent is None else names.get(span.parent.span_id, f"{span.parent.span_id:016x}")
            for span in self.spans
        }

    def traces(self) -> set[str]:
        return {f"{span.context.trace_id:032x}" for span in self.spans}


@pytest.fixture
def heard() -> Heard:
    return Heard()


Work = Callable[[], Awaitable[None]]


@pytest.fixture
async def work(lab: Lab, heard: Heard) -> AsyncGenerator[Work]:
    """Start a worker whose spans are heard; it is stopped at the end of the test."""
    async with AsyncExitStack() as stack:

        async def start() -> None:
            worker = Worker(lab.app, settings=lab.settings, concurrency=20, tracer_provider=heard.provider)
            await stack.enter_async_context(running(worker))
            lab.app.connect(lab.wire)

        yield start


async def told(lab: Lab, heard: Heard, names: set[str]) -> None:
    """Wait until spans of these names have been told."""

    async def look() -> bool:
        return names <= {span.name for span in heard.spans}

    await eventually(look, f"spans {names}")
    await lab.idle()


async def test_a_run_is_a_span_of_the_trace_that_has_published_its_event(lab: Lab, heard: Heard, work: Work) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict[str, Any]], step: Step) -> str:
        return await step.run("draw", lambda: "cat")

    await work()
    with heard.tracer.start_as_current_span("request") as request:
        await lab.app.send("a", {"secret": "of the payload"})
    run = await lab.one()
    await lab.idle()
    assert heard.tree() == {"request": "", "test-f": "request", "draw": "test-f", "draw attempt 1": "draw"}
    assert heard.traces() == {f"{request.get_span_context().trace_id:032x}"}
    assert heard.about("test-f", "run_id") == run.id
    assert (heard.about("test-f", "function"), heard.about("test-f", "event")) == ("test-f", "a")
    assert (heard.about("test-f", "status"), heard.one("test-f").kind) == ("completed", SpanKind.CONSUMER)
    assert (heard.about("draw", "step"), heard.about("draw attempt 1", "attempt")) == ("draw", 1)
    assert {span.status.status_code for span in heard.spans} == {StatusCode.UNSET}
    assert not any("of the payload" in span.to_json() for span in heard.spans)
    within = heard.one("test-f")
    for span in (heard.one("draw"), heard.one("draw attempt 1")):
        assert within.start_time <= span.start_time <= span.end_time <= within.end_time


async def test_an_event_without_a_trace_begins_one_that_its_run_id_tells(lab: Lab, heard: Heard, work: Work) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None: ...

    await work()
    await lab.send("a")
    run = await lab.one()
    await lab.idle()
    assert heard.tree() == {"test-f": ""}
    assert heard.traces() == {shown_trace(run.id, None)}


async def test_each_attempt_is_a_span_and_one_that_failed_says_why(lab: Lab, heard: Heard, work: Work) -> None:
    tried: list[str] = []

    def once_more(what: str) -> str:
        tried.append(what)
        if tried.count(what) == 1:
            raise ConnectionError(f"no {what}")
        return what

    @lab.app.function("f", on="a", retries=Retry(2, backoff=0.01))
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None:
        await step.run("print", once_more, "paper")
        once_more("glue")
        try:
            await step.run("never", once_more, "never", retries=0)
        except StepFailed:
            raise NonRetriable("given up") from None

    await work()
    await lab.send("a")
    assert (await lab.one()).status == "failed"
    await lab.idle()
    assert heard.tree() == {
        "test-f": "",
        "print": "test-f",
        "print attempt 1": "print",
        "print attempt 2": "print",
        "attempt 1": "test-f",
        "never": "test-f",
        "never attempt 1": "never",
    }
    assert [span.name for span in heard.spans].count("attempt 1") == 2  # a step between them: its attempts begin anew
    assert heard.about("print", "attempts") == 2
    failed = {span.name for span in heard.spans if span.status.status_code is StatusCode.ERROR}
    assert failed == {"print attempt 1", "attempt 1", "never", "never attempt 1", "test-f"}
    (event,) = heard.one("print attempt 1").events
    assert (event.name, event.attributes["exception.type"]) == ("exception", "ConnectionError")
    assert event.attributes["exception.message"] == "no paper"
    assert "once_more" in event.attributes["exception.stacktrace"]
    assert heard.one("test-f").status.description == "NonRetriable: given up"
    assert not heard.one("print").events


async def test_what_a_run_waits_for_is_a_span_once_however_often_it_is_replayed(
    lab: Lab, heard: Heard, work: Work
) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None:
        await step.sleep("nap", 0.01)
        await step.wait_for_event("paid", "b", timeout="1h")
        await step.wait_for_event("late", "never", timeout="10ms")
        await step.wait_for_signal("yes", "go", timeout="1h")
        await step.sleep("rest", 0.01)
        await step.invoke("call", g, {})
        await step.sleep("end", 0.01)

    @lab.app.function("g")
    async def g(ctx: Context[dict[str, Any]], step: Step) -> str:
        return "g"

    await work()
    await lab.app.publish([NewEvent("a")])
    run = await lab.first("test-f")

    async def waits(step: str) -> bool:
        found = (await lab.steps((await lab.some(1, "test-f"))[0])).get(step)
        return found is not None and found.due is not None

    await eventually(lambda: waits("paid"), "it waits for b")
    await lab.status(run, "waiting")
    await lab.send("b")
    await eventually(lambda: waits("yes"), "it waits for the signal")
    await send_signal(lab.wire, "go", {})
    await lab.ended(2)
    await lab.idle()
    assert heard.tree() == {
        "test-f": "",
        **dict.fromkeys(["nap", "paid", "late", "yes", "rest", "call", "end"], "test-f"),
        "test-g": "call",
    }
    assert len(heard.traces()) == 1
    assert (heard.about("late", "timed_out"), heard.about("paid", "timed_out")) == (True, None)
    assert heard.about("yes", "step.kind") == "signal"
    kept = (await lab.steps((await lab.some(1, "test-f"))[0]))["paid"]
    assert heard.one("paid").end_time == (kept.ended or 0) * 1_000_000


async def test_what_a_run_sends_belongs_to_its_trace(lab: Lab, heard: Heard, work: Work) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None:
        await step.send_event("tell", NewEvent("b"))

        async def by_hand() -> None:
            await lab.app.send("c")

        await step.run("body", by_hand)

    @lab.app.function("g", on="b")
    async def g(ctx: Context[dict[str, Any]], step: Step) -> None: ...

    @lab.app.function("h", on="c")
    async def h(ctx: Context[dict[str, Any]], step: Step) -> None: ...

    await work()
    await lab.send("a")
    await lab.ended(3)
    await lab.idle()
    assert heard.tree() == {
        "test-f": "",
        "tell": "test-f",
        "test-g": "tell",
        "body": "test-f",
        "body attempt 1": "body",
        "test-h": "body attempt 1",
    }
    assert len(heard.traces()) == 1


async def test_the_authors_spans_belong_to_the_attempt_on_the_loop_and_in_threads(
    lab: Lab, heard: Heard, work: Work
) -> None:
    def in_thread() -> None:
        with heard.tracer.start_as_current_span("query"):
            trace.get_current_span().set_attribute("rows", 3)

    async def on_loop() -> None:
        trace.get_current_span().set_attribute("mine", "yes")
        with heard.tracer.start_as_current_span("request"):
            await asyncio.sleep(0)

    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None:
        await asyncio.gather(step.run("thread", in_thread), step.run("loop", on_loop))
        with heard.tracer.start_as_current_span("between"):
            pass

    await work()
    await lab.send("a")
    await lab.one()
    await lab.idle()
    tree = heard.tree()
    assert (tree["query"], tree["request"]) == ("thread attempt 1", "loop attempt 1")
    assert tree["between"] == "test-f"
    assert (heard.one("loop attempt 1").attributes or {})["mine"] == "yes"
    assert not trace.get_current_span().get_span_context().is_valid


async def test_without_who_makes_spans_a_trace_is_passed_on_and_nothing_is_made(lab: Lab) -> None:
    seen: list[bool] = []

    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None:
        seen.append(trace.get_current_span().get_span_context().is_valid)
        await step.send_event("tell", NewEvent("b"))
        await step.invoke("call", h, {})

    @lab.app.function("g", on="b")
    async def g(ctx: Context[dict[str, Any]], step: Step) -> None: ...

    @lab.app.function("h")
    async def h(ctx: Context[dict[str, Any]], step: Step) -> None: ...

    await lab.work()
    app = create_app(configured=lab.settings)
    async with app.router.lifespan_context(app):
        await post(app, GIVEN)
        await lab.ended(3)
    assert set(seen) == {False}
    assert {run.function: stored_trace(run) for run in await lab.runs()} == dict.fromkeys(
        ["test-f", "test-g", "test-h"], GIVEN
    )


async def test_a_traceparent_comes_in_by_http_and_a_malformed_one_is_ignored(
    lab: Lab, heard: Heard, work: Work
) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None: ...

    await work()
    app = create_app(configured=lab.settings)
    async with app.router.lifespan_context(app):
        await post(app, GIVEN)
        await told(lab, heard, {"test-f"})
        assert (heard.traces(), heard.tree()) == ({TRACE}, {"test-f": SPAN})
        await post(app, GIVEN.upper())
        await lab.ended(2)
        await lab.idle()
    runs = await lab.runs()
    assert heard.traces() == {TRACE, *(shown_trace(run.id, None) for run in runs if stored_trace(run) is None)}
    assert len(heard.traces()) == 2


async def test_a_batch_is_of_the_trace_of_its_first_event_and_linked_to_the_others(
    lab: Lab, heard: Heard, work: Work
) -> None:
    @lab.app.function("f", on="a", batch=Batch(2, "1m"))
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None: ...

    await work()
    sent: list[SpanContext] = []
    for name in ("one", "two"):
        with heard.tracer.start_as_current_span(name) as span:
            sent.append(span.get_span_context())
            await lab.app.send("a")
    await told(lab, heard, {"test-f"})
    run = heard.one("test-f")
    assert run.context.trace_id == sent[0].trace_id
    assert [link.context.span_id for link in run.links] == [sent[1].span_id]
    assert (run.attributes or {})["messaging.batch.message_count"] == 2


async def test_a_sender_that_is_not_sampled_gets_no_spans_and_neither_do_all_turns_of_its_run(
    lab: Lab, heard: Heard, work: Work
) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None:
        await step.run("s", lambda: seen.append(trace.get_current_span().get_span_context()))
        await step.sleep("nap", 0.01)

    seen: list[trace.SpanContext] = []
    off = TracerProvider(sampler=ParentBased(ALWAYS_OFF), shutdown_on_exit=False).get_tracer("off")
    await work()
    with off.start_as_current_span("request"):
        await lab.app.send("a")
    run = await lab.one()
    await lab.idle()
    assert heard.spans == []
    context = parsed(stored_trace(run))
    assert context is not None
    assert [(one.trace_id, one.trace_flags.sampled) for one in seen] == [(context.trace_id, False)]


def test_a_tracer_provider_that_cannot_be_given_ids_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"must be one of opentelemetry\.sdk\.trace"):
        tracing_of(trace.NoOpTracerProvider())


def stored_trace(run: Run) -> str | None:
    return codec.decode_as(run.event or b"", RawEvent).trace


async def post(app: Starlette, traceparent: str) -> None:
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as http:
        answer = await http.post("/e/any", json={"name": "a"}, headers={"traceparent": traceparent})
        assert answer.status_code == 200, answer.text


async def test_a_run_that_sleeps_for_a_month_is_one_trace(heard: Heard) -> None:
    app = Bus("shop")

    @app.function("ship", on="paid")
    async def ship(ctx: Context[dict[str, Any]], step: Step) -> None:
        await step.run("label", lambda: 1)
        await step.sleep("month", "30d")
        await step.run("thank", lambda: 2)

    async with Harness(app, tracer_provider=heard.provider) as bus:
        with heard.tracer.start_as_current_span("request") as request:
            await bus.send("paid")
        await bus.advance("30d")
        await bus.output()
    assert heard.tree() == {
        "request": "", "shop-ship": "request", "label": "shop-ship", "label attempt 1": "label", "month": "shop-ship",
        "thank": "shop-ship", "thank attempt 1": "thank",
    }  # fmt: skip
    assert heard.traces() == {f"{request.get_span_context().trace_id:032x}"}
    month_ns = 30 * 86_400 * 10**9
    for name in ("month", "shop-ship"):
        assert heard.one(name).end_time - heard.one(name).start_time >= month_ns


async def test_each_firing_of_a_schedule_has_a_trace_of_its_own(heard: Heard) -> None:
    app = Bus("shop")

    @app.function("nightly", on=Cron("0 4 * * *"))
    async def nightly(ctx: Context[Any], step: Step) -> None: ...

    async with Harness(app, tracer_provider=heard.provider, at=datetime(2026, 11, 1, 12, tzinfo=UTC)) as bus:
        for _ in range(2):
            await bus.advance("1d")
    assert [span.name for span in heard.spans] == ["shop-nightly"] * 2
    assert len(heard.traces()) == 2
    assert {span.parent for span in heard.spans} == {None}


async def test_what_runs_because_a_run_has_failed_is_below_that(lab: Lab, heard: Heard, work: Work) -> None:
    async def sorry(ctx: Context[Any], step: Step) -> None: ...

    @lab.app.function("f", on="a", retries=0, on_failure=sorry)
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None:
        raise ValueError("no")

    @lab.app.function("g", on="bus/function.finished", retries=0)
    async def g(ctx: Context[Any], step: Step) -> None: ...

    await work()
    await lab.send("a")
    await told(lab, heard, {"test-f-failure", "test-g"})
    assert heard.tree() == {
        "test-f": "", "attempt 1": "test-f", "test-f-failure": "test-f", "test-g": "test-f",
    }  # fmt: skip


async def test_a_call_over_http_begins_its_run_in_the_callers_trace(lab: Lab, heard: Heard, work: Work) -> None:
    @lab.app.function("f")
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None: ...

    await work()
    app = create_app(configured=lab.settings)
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as http:
            answer = await http.post("/invoke/test-f", json={"data": {}}, headers={"traceparent": GIVEN})
            assert answer.status_code < 300, answer.text
        await told(lab, heard, {"test-f"})
    assert (heard.traces(), heard.tree()) == ({TRACE}, {"test-f": SPAN})


async def test_a_run_that_is_cancelled_in_mid_step_ends_its_span_and_not_the_attempts(
    lab: Lab, heard: Heard, work: Work
) -> None:
    begun = asyncio.Event()

    async def forever() -> None:
        begun.set()
        await asyncio.Event().wait()

    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None:
        await step.run("s", forever)

    await work()
    await lab.send("a")
    await begun.wait()
    await cancel(lab.wire, await lab.first(), "by hand")
    assert (await lab.one()).status == "cancelled"
    await lab.idle()
    assert heard.tree() == {"test-f": ""}
    assert (heard.about("test-f", "status"), heard.one("test-f").status.status_code) == ("cancelled", StatusCode.UNSET)


async def test_what_a_run_writes_says_the_attempt_and_the_trace(
    lab: Lab, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    log, structured = logging.getLogger("shop.labels"), structlog.testing.CapturingLogger()
    shop: Any = structlog.wrap_logger(structured, processors=[in_run, lambda _, __, event: event])
    tried: list[int] = []

    def label() -> None:
        tried.append(1)
        log.info("printing")
        shop.info("printing")
        if len(tried) < 2:
            raise ConnectionError("no printer")

    @lab.app.function("f", on="a", retries=Retry(2, backoff=0.01))
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None:
        await step.run("label", label)

    await lab.work()
    app = create_app(configured=lab.settings)
    async with app.router.lifespan_context(app):
        await post(app, GIVEN)
        run = await lab.one()
    of_shop: list[Any] = [record for record in caplog.records if record.name == "shop.labels"]
    assert [(one.bus_step, one.bus_attempt, one.bus_trace) for one in of_shop] == [
        ("label", 1, TRACE), ("label", 2, TRACE),
    ]  # fmt: skip
    assert [call.kwargs for call in structured.calls] == [
        {"event": "printing", "function": "test-f", "run": run.id, "step": "label", "attempt": n, "trace": TRACE}
        for n in (1, 2)
    ]
    lines = (await log_of(lab.wire, run.function, run.id)).lines
    assert [(line.text.split(";")[0], line.attempt) for line in lines if line.source != "log" or line.attempt > 1] == [
        ("attempt 1 failed: ConnectionError: no printer", 1), ("printing", 2),
    ]  # fmt: skip
    show_lines(lines)
    assert "label  attempt 2  info  printing" in capsys.readouterr().out


async def test_a_runs_trace_is_on_its_page_in_the_api_and_in_the_command(lab: Lab) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None: ...

    await lab.work()
    given = "https://jaeger.example/trace/{trace_id}?back=1"
    plain, linked = (create_app(configured=msgspec.structs.replace(lab.settings, trace_url=url)) for url in ("", given))
    async with plain.router.lifespan_context(plain), linked.router.lifespan_context(linked):
        await post(plain, GIVEN)
        await lab.ended(1)
        await lab.send("a")
        await lab.ended(2)
        for run in await lab.runs():
            trace = shown_trace(run.id, stored_trace(run))
            link = f'<a href="https://jaeger.example/trace/{trace}?back=1" rel="noreferrer">{trace}</a>'
            assert link in await got(linked, f"/runs/{run.id}")
            # Without a setting one is told that somebody has sent, and none that nobody may have heard of.
            assert (trace in await got(plain, f"/runs/{run.id}")) == (trace == TRACE)
            assert json.loads(await got(plain, f"/v1/runs/{run.id}"))["data"]["trace"] == trace
            env = {**os.environ, "BUS_REDIS_URL": lab.settings.redis_url, "BUS_TRACE_URL": given}
            done = await anyio.to_thread.run_sync(lambda run=run, env=env: forks.bus("run", run.id, env=env))
            assert f"trace  https://jaeger.example/trace/{trace}?back=1\n" in done.stdout, done.stderr
        assert {shown_trace(run.id, stored_trace(run)) for run in await lab.runs()} > {TRACE}


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (
            "https://jaeger.example/trace/",
            "BUS_TRACE_URL must say where the trace's id stands, {trace_id}; it does not",
        ),
        ("javascript:{trace_id}", "BUS_TRACE_URL must be an address like https://example.com/path"),
    ],
)
def test_an_address_of_traces_that_leads_nowhere_is_refused(url: str, told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        read({"BUS_TRACE_URL": url})


async def got(app: Starlette, path: str) -> str:
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as http:
        accept = "application/json" if path.startswith("/v1") else "text/html"
        answer = await http.get(path, headers={"accept": accept})
        assert answer.status_code == 200, answer.text
        return answer.text


async def test_what_an_error_says_of_a_secret_is_in_no_span(lab: Lab, heard: Heard, work: Work) -> None:
    @lab.app.function("f", on="a", retries=0)
    async def f(ctx: Context, step: Step) -> None:
        def body() -> None:
            raise ValueError("refused: password=canary-1, user=ada")

        await step.run("log-in", body)

    await work()
    await lab.send("a")
    assert (await lab.one()).status == "failed"
    told = [f"{span.status.description} {[event.attributes for event in span.events]}" for span in heard.spans]
    assert any("refused: password=[redacted], user=ada" in one for one in told)
    assert not any("canary-1" in one for one in told), told


async def test_what_an_error_says_of_a_field_that_an_event_type_hides_is_in_no_span(
    lab: Lab, heard: Heard, work: Work
) -> None:
    class Paid(EventData, name="paid", redact=["card.number"]):
        card: dict[str, str]

    @lab.app.function("f", on=Paid, retries=0)
    async def f(ctx: Context[Paid], step: Step) -> None:
        raise ValueError(f"refused: {ctx.event.data}")

    await work()
    await lab.send("paid", {"card": {"number": "canary-1", "name": "ada"}})
    assert (await lab.one()).status == "failed"
    told = [f"{span.status.description} {[event.attributes for event in span.events]}" for span in heard.spans]
    assert any("refused: Paid(card={'number': '[redacted]', 'name': 'ada'})" in one for one in told), told
    assert not any("canary-1" in one for one in told), told


async def test_the_tree_in_the_documentation_is_that_of_spans_which_runs_make() -> None:
    lines = lines_of(await traced())
    assert f"```text\n{text_of(lines)}```\n" in (ROOT / "docs" / "tracing.md").read_text()
    picture = picture_of(lines)
    assert picture.count('<rect class="good"') == len(lines) - 1
    assert picture.count('<rect class="bad"') == 1
