"""What follows an end: on_failure, functions on bus/function.…, progress on the way."""

import asyncio
import contextlib
import json

import pytest

from stepstream import Context, EventData, NonRetriable, Step, StepFailed
from stepstream.bus.errors import ConfigError
from stepstream.bus.wire import keys
from tests.support import Lab, eventually


class Ordered(EventData, name="shop/ordered", rename="camel"):
    order_id: str


@pytest.mark.each_server
async def test_on_failure_runs_when_a_run_has_failed(lab: Lab) -> None:
    async def refund(ctx: Context[dict], step: Step) -> str:
        failed = ctx.event.data
        return f"{failed['event']['data']['orderId']}: {failed['error']['message']}"

    @lab.app.function("order", on=Ordered, on_failure=refund)
    async def order(ctx: Context[Ordered], step: Step) -> None:
        if ctx.event.data.order_id == "o1":
            raise NonRetriable("sold out")

    await lab.work()
    await lab.app.send(Ordered("o1"))
    await lab.app.send(Ordered("o2"))
    runs = await lab.ended(3)
    told = next(run for run in runs if run.function == "test-order-failure")
    assert json.loads(bytes(told.output or b"")) == "o1: sold out"
    await lab.idle()


async def test_on_failure_of_an_event_that_does_not_fit_its_type_has_the_raw_event(lab: Lab) -> None:
    async def refund(ctx: Context[dict], step: Step) -> dict:
        return ctx.event.data

    @lab.app.function("order", on=Ordered, on_failure=refund)
    async def order(ctx: Context[Ordered], step: Step) -> None:
        return None

    await lab.work()
    await lab.store("shop/ordered", {"orderId": 7})
    told = next(run for run in await lab.ended(2) if run.function == "test-order-failure")
    data = json.loads(bytes(told.output or b""))
    assert data["error"]["name"] == "event_invalid"
    assert data["event"]["data"] == {"orderId": 7}


async def test_functions_that_listen_to_ends_hear_of_invoked_runs_and_of_any_data(lab: Lab) -> None:
    """Whether a run was made by an end was looked for as text, which an invoked run and a customer's data have, too."""
    heard: list[tuple[str, str]] = []

    @lab.app.function("child")
    async def child(ctx: Context[dict], step: Step) -> str:
        if ctx.event.data.get("fail"):
            raise NonRetriable("no")
        return "fine"

    @lab.app.function("order", on="shop/any")
    async def order(ctx: Context[dict], step: Step) -> None:
        if ctx.event.data.get("calls"):
            await step.invoke("good", child)
            with contextlib.suppress(StepFailed):
                await step.invoke("bad", child, {"fail": True})

    @lab.app.function("finished", on=["bus/function.finished", "bus/function.failed"])
    async def finished(ctx: Context[dict], step: Step) -> None:
        heard.append((ctx.event.name.partition(".")[2], ctx.event.data["function_id"]))

    await lab.work()
    await lab.send("shop/any", {"calls": True})
    await lab.send("shop/any", {"like": {"name": "bus/function.finished"}, "text": '"name":"bus/function.failed"'})
    await lab.ended(4 + 5)
    assert sorted(heard) == [
        ("failed", "test-child"), ("finished", "test-child"), ("finished", "test-child"),
        ("finished", "test-order"), ("finished", "test-order"),
    ]  # fmt: skip


async def test_functions_may_listen_to_ends_and_are_not_told_of_their_own(lab: Lab) -> None:
    @lab.app.function("order", on=Ordered)
    async def order(ctx: Context[Ordered], step: Step) -> str:
        if ctx.event.data.order_id == "bad":
            raise NonRetriable("bad")
        return "fine"

    @lab.app.function("finished", on="bus/function.finished")
    async def finished(ctx: Context[dict], step: Step) -> list:
        return [ctx.event.data["function_id"], ctx.event.data["status"], ctx.event.data.get("result")]

    @lab.app.function("failed", on="bus/function.failed")
    async def failed(ctx: Context[dict], step: Step) -> str:
        return ctx.event.data["error"]["message"]

    await lab.work()
    await lab.app.send(Ordered("good"))
    await lab.app.send(Ordered("bad"))
    runs = await lab.ended(5)
    outputs = sorted(
        json.dumps(json.loads(bytes(run.output))) for run in runs if run.output and run.function != "test-order"
    )
    assert outputs == ['"bad"', '["test-order", "completed", "fine"]', '["test-order", "failed", null]']
    await lab.idle()


async def test_nothing_is_written_for_ends_that_nobody_hears_of(lab: Lab) -> None:
    @lab.app.function("order", on=Ordered)
    async def order(ctx: Context[Ordered], step: Step) -> None:
        return None

    await lab.work()
    await lab.app.send(Ordered("o1"))
    await lab.one()
    assert await lab.wire.call("XINFO", "STREAM", keys.ends("test-order"))
    flat = await lab.wire.call("XINFO", "STREAM", keys.ends("test-order"))
    assert dict(zip(flat[::2], flat[1::2], strict=True))[b"last-generated-id"] == b"0-0"


async def test_progress_is_on_the_run(lab: Lab) -> None:
    gate = asyncio.Event()

    @lab.app.function("order", on=Ordered)
    async def order(ctx: Context[Ordered], step: Step) -> None:
        for percent in range(0, 60, 10):
            ctx.progress(percent, processed=percent * 4)
        await gate.wait()

    await lab.work()
    await lab.app.send(Ordered("o1"))

    async def half() -> bool:
        run = (await lab.some())[0]
        return run.progress is not None and json.loads(bytes(run.progress)) == {"percent": 50, "processed": 200}

    await eventually(half, "the last of several is shown")
    gate.set()
    await lab.one()


async def test_fetch_is_a_step(lab: Lab) -> None:
    asked: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = (await reader.readline()).decode().split()
        asked.append(line[1])
        status = b"503 Later\r\nRetry-After: 1" if len(asked) == 1 else b"200 OK"
        writer.write(b"HTTP/1.1 " + status + b'\r\nContent-Length: 7\r\nConnection: close\r\n\r\n{"a":1}')
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    @lab.app.function("order", on=Ordered)
    async def order(ctx: Context[Ordered], step: Step) -> list:
        found = await step.fetch("ask", f"http://127.0.0.1:{port}/x")
        await step.sleep("nap", 0.05)
        return [found.status, found.json()]

    await lab.work()
    await lab.app.send(Ordered("o1"))
    assert await lab.output() == [200, {"a": 1}]
    assert asked == ["/x", "/x"]
    server.close()


def test_a_failure_function_whose_id_is_taken_is_refused() -> None:
    from stepstream import Bus

    app = Bus("a")

    @app.function("f-failure", on="x")
    async def other(ctx, step):
        return None

    async def told(ctx, step):
        return None

    with pytest.raises(ConfigError, match="'f-failure' is a function already"):
        app.function("f", on="x", on_failure=told)
