"""The application of tests/sdk for the official Python SDK: what js/app.mjs has, but for what that SDK does not have.

`uvicorn app:app`; JOURNAL gets a line for each call and for each thing done.
"""

import asyncio
import datetime as dt
import json
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

import fastapi
import inngest
import inngest.fast_api
from inngest.experimental.ai.openai import Adapter

JOURNAL = os.environ["JOURNAL"]
client = inngest.Inngest(app_id="matrix", is_production=os.environ.get("INNGEST_DEV") in (None, "", "0"))
streaming = inngest.Inngest(app_id="streaming", is_production=os.environ.get("INNGEST_DEV") in (None, "", "0"))
functions: list[Any] = []


def note(**line: Any) -> None:
    with open(JOURNAL, "a") as journal:
        journal.write(json.dumps(line) + "\n")


def done(fn: str, step: str, ctx: inngest.Context, **more: Any) -> None:
    note(fn=fn, step=step, run=ctx.run_id, attempt=ctx.attempt, **more)


def on(id: str, trigger: Any = None, **options: Any) -> Callable[[Any], Any]:
    def declare(handler: Callable[[inngest.Context], Awaitable[Any]]) -> Any:
        when = trigger or inngest.TriggerEvent(event=f"t/{id}")
        declared = client.create_function(fn_id=id, trigger=when, **options)(handler)
        functions.append(declared)
        return declared

    return declare


def seconds(count: float) -> dt.timedelta:
    return dt.timedelta(seconds=count)


meetings: dict[str, tuple[asyncio.Event, list[int]]] = {}


async def meet(name: str, count: int = 2) -> bool:
    """Two that meet: each waits until the other has begun."""
    event, here = meetings.setdefault(name, (asyncio.Event(), []))
    here.append(1)
    if len(here) >= count:
        event.set()
    try:
        await asyncio.wait_for(event.wait(), 60)
    except TimeoutError:
        return False
    return True


# -- steps ------------------------------------------------------------------------------------------------------------


@on("steps")
async def steps(ctx: inngest.Context) -> Any:
    def a() -> Any:
        done("steps", "a", ctx)
        return {"n": ctx.event.data["n"], "text": "Zürich ✓", "list": [1, 2.5, None]}

    def same(n: int) -> int:
        done("steps", f"same{n}", ctx)
        return n

    first = await ctx.step.run("a", a)
    none = await ctx.step.run("none", lambda: None)
    return {"a": first, "none": none, "same": [await ctx.step.run("same", same, n) for n in (0, 1, 2)]}


@on("caught", retries=0)
async def caught(ctx: inngest.Context) -> Any:
    def bad() -> None:
        done("caught", "bad", ctx)
        raise TypeError("x is undefined")

    try:
        return await ctx.step.run("bad", bad)
    except inngest.StepError as error:
        message = error.message
    return await ctx.step.run("mend", lambda: f"caught: {message}")


@on("later", retries=2)
async def later(ctx: inngest.Context) -> Any:
    def flaky() -> int:
        done("later", "flaky", ctx)
        if ctx.attempt == 0:
            raise inngest.RetryAfterError("not yet", 1_000)
        return ctx.attempt

    return await ctx.step.run("flaky", flaky)


@on("backoff", retries=1)
async def backoff(ctx: inngest.Context) -> Any:
    def flaky() -> None:
        done("backoff", "flaky", ctx, at=time.time() * 1_000)
        raise ValueError("try me later")

    await ctx.step.run("flaky", flaky)


@on("for-good", retries=4)
async def for_good(ctx: inngest.Context) -> Any:
    def bad() -> None:
        done("for-good", "bad", ctx)
        raise inngest.NonRetriableError("never")

    await ctx.step.run("bad", bad)


@on("between", retries=2)
async def between(ctx: inngest.Context) -> Any:
    def a() -> int:
        done("between", "a", ctx)
        return 1

    first = await ctx.step.run("a", a)
    if ctx.attempt == 0:
        raise inngest.RetryAfterError("not yet", 1_000)
    return {"a": first, "attempt": ctx.attempt}


async def told_of(ctx: inngest.Context) -> Any:
    data: Any = ctx.event.data

    def told() -> Any:
        return {
            "function_id": data["function_id"], "run_id": data["run_id"], "message": data["error"]["message"],
            "n": data["event"]["data"]["n"],
        }  # fmt: skip

    return await ctx.step.run("told", told)


@on("fails", retries=0, on_failure=told_of)
async def fails(ctx: inngest.Context) -> Any:
    raise ValueError("boom")


# -- several at once --------------------------------------------------------------------------------------------------


@on("parallel")
async def parallel(ctx: inngest.Context) -> Any:
    async def one(name: str) -> bool:
        done("parallel", name, ctx)
        return await meet(ctx.run_id)

    met = await ctx.group.parallel((lambda: ctx.step.run("p", one, "p"), lambda: ctx.step.run("q", one, "q")))
    total = await ctx.step.run("sum", lambda: sum(met))
    return {"sum": total, "after": await ctx.step.run("after", lambda: "after")}


@on("mixed")
async def mixed(ctx: inngest.Context) -> Any:
    several: Any = (
        lambda: ctx.step.run("ran", lambda: "ran"),
        lambda: ctx.step.sleep("nap", 200),
        lambda: ctx.step.wait_for_event("go", event="t/mixed.go", timeout=seconds(3_600)),
        lambda: ctx.step.invoke("call", function=child, data={"n": 4}),
    )
    ran, slept, got, invoked = await ctx.group.parallel(several)
    return {"ran": ran, "slept": slept, "got": got.data, "invoked": invoked}


@on("race")
async def race(ctx: inngest.Context) -> Any:
    """This SDK tells only the order of ends by itself: whoever is awaited first in the code comes first."""

    async def slow() -> str:
        await meet(ctx.run_id)
        return "slow"

    async def first() -> str:
        done("race", "after", ctx)
        await meet(ctx.run_id)
        return "fast"

    async def chain() -> str:
        fast = await ctx.step.run("fast", lambda: "fast")
        assert fast == "fast"
        return await ctx.step.run("after", first)

    several: Any = (lambda: ctx.step.run("slow", slow), chain)
    return (await ctx.group.parallel(several, parallel_mode=inngest.ParallelMode.RACE))[1]


# -- waiting ----------------------------------------------------------------------------------------------------------


@on("sleep")
async def sleep(ctx: inngest.Context) -> str:
    await ctx.step.sleep("nap", 1_000)
    until = dt.datetime.fromtimestamp(int(str(ctx.event.data["until"])) / 1_000, dt.UTC)
    await ctx.step.sleep_until("until", until)
    return "awake"


@on("wait")
async def wait(ctx: inngest.Context) -> Any:
    got = await ctx.step.wait_for_event(
        "answer", event="t/answer", timeout=seconds(3_600), if_exp="event.data.id == async.data.id"
    )
    return got.data if got else None


@on("wait-timeout")
async def wait_timeout(ctx: inngest.Context) -> Any:
    return {"got": await ctx.step.wait_for_event("never", event="t/never", timeout=1_000)}


@on("child")
async def child(ctx: inngest.Context) -> int:
    return await ctx.step.run("double", lambda: int(str(ctx.event.data["n"])) * 2)


@on("child-fails", retries=0)
async def child_fails(ctx: inngest.Context) -> None:
    raise inngest.NonRetriableError("child is broken")


@on("child-sleeps")
async def child_sleeps(ctx: inngest.Context) -> None:
    await ctx.step.sleep("long", seconds(3_600))


@on("invoke")
async def invoke(ctx: inngest.Context) -> Any:
    return await ctx.step.invoke("call", function=child, data={"n": 21})


@on("invoke-fails", retries=0)
async def invoke_fails(ctx: inngest.Context) -> Any:
    try:
        return {"returned": await ctx.step.invoke("call", function=child_fails)}
    except inngest.StepError as error:
        return {"caught": error.message}


@on("invoke-timeout", retries=0)
async def invoke_timeout(ctx: inngest.Context) -> Any:
    try:
        return {"returned": await ctx.step.invoke("call", function=child_sleeps, timeout=seconds(1))}
    except inngest.StepError as error:
        return {"caught": error.message}


@on("invoke-unknown", retries=0)
async def invoke_unknown(ctx: inngest.Context) -> Any:
    try:
        return {"returned": await ctx.step.invoke_by_id("call", function_id="nobody")}
    except inngest.StepError as error:
        return {"caught": error.message}


@on("send")
async def send(ctx: inngest.Context) -> int:
    events = [inngest.Event(name="t/sent", data={"n": n, "of": ctx.event.data["of"]}) for n in (1, 2)]
    return len(await ctx.step.send_event("tell", events))


@on("sent")
async def sent(ctx: inngest.Context) -> Any:
    return ctx.event.data


# -- what the bus calls -----------------------------------------------------------------------------------------------


@on("infer", retries=0)
async def infer(ctx: inngest.Context) -> Any:
    adapter = Adapter(auth_key="secret", base_url=str(ctx.event.data["url"]), model="small")
    body = {"messages": [{"role": "user", "content": "hello"}]}
    answer: Any = await ctx.step.ai.infer("ask", adapter=adapter, body=body)
    return answer["choices"][0]["message"]["content"]


# -- options ----------------------------------------------------------------------------------------------------------


def record(id: str) -> Callable[[inngest.Context], Awaitable[Any]]:
    async def handler(ctx: inngest.Context) -> Any:
        data: Any = ctx.event.data

        async def work() -> None:
            done(id, "begin", ctx, data=data, at=time.time() * 1_000)
            if data.get("meet"):
                await meet(data["meet"])
            while data.get("hold") and os.path.exists(data["hold"]):
                await asyncio.sleep(0.02)
            await asyncio.sleep(data.get("ms", 0) / 1_000)
            done(id, "end", ctx, data=data, at=time.time() * 1_000)

        await ctx.step.run("work", work)
        return data

    return handler


async def long(ctx: inngest.Context) -> None:
    await ctx.step.sleep("nap", seconds(3_600))


on("concurrency", concurrency=[inngest.Concurrency(limit=1, key="event.data.k")])(record("concurrency"))
on("env-a", concurrency=[inngest.Concurrency(limit=1, scope="env", key='"one"')])(record("env"))
on("env-b", concurrency=[inngest.Concurrency(limit=1, scope="env", key='"one"')])(record("env"))
on("account", concurrency=[
    inngest.Concurrency(limit=1, scope="account", key='"all"'), inngest.Concurrency(limit=2, scope="fn"),
])(record("account"))  # fmt: skip
on("throttle", throttle=inngest.Throttle(limit=1, period=seconds(1), burst=1, key="event.data.k"))(record("throttle"))
on("rate", rate_limit=inngest.RateLimit(limit=1, period=seconds(60), key="event.data.k"))(record("rate"))
on("debounce", debounce=inngest.Debounce(period=seconds(1), key="event.data.k", timeout=seconds(2)))(record("debounce"))
on("priority", concurrency=[inngest.Concurrency(limit=1)], priority=inngest.Priority(run="event.data.p"))(
    record("priority")
)
on("skip", singleton=inngest.Singleton(mode="skip", key="event.data.k"))(long)
on("replace", singleton=inngest.Singleton(mode="cancel"))(long)
on("once", idempotency="event.data.k")(record("once"))
on("start-by", concurrency=[inngest.Concurrency(limit=1)], timeouts=inngest.Timeouts(start=seconds(3)))(
    record("start-by")
)
on("finish-by", timeouts=inngest.Timeouts(finish=seconds(1)))(long)
on("cancel-on", cancel=[inngest.Cancel(event="t/stop", if_exp="async.data.id == event.data.id")])(long)


on("cancel-soon", cancel=[inngest.Cancel(event="t/soon", timeout=seconds(1))])(long)
batching = inngest.Batch(max_size=3, timeout=seconds(1), key="event.data.k", if_exp="event.data.k != 'now'")


@on("batch", batch_events=batching)
async def batch(ctx: inngest.Context) -> Any:
    return [one.data["n"] for one in ctx.events]


@on("each-minute", inngest.TriggerCron(cron="TZ=Europe/Paris * * * * *"))
async def each_minute(ctx: inngest.Context) -> Any:
    return ctx.event.model_dump()


@on("each-year", inngest.TriggerCron(cron="0 0 1 1 *", jitter="1m"))
async def each_year(ctx: inngest.Context) -> None:
    pass


@on("wild", inngest.TriggerEvent(event="t/wild/*"))
async def wild(ctx: inngest.Context) -> str:
    return ctx.event.name


@on("if", inngest.TriggerEvent(event="t/if", expression="event.data.ok == true"))
async def if_(ctx: inngest.Context) -> Any:
    return ctx.event.data


@on("two", [inngest.TriggerEvent(event="t/two.a"), inngest.TriggerEvent(event="t/two.b")])
async def two(ctx: inngest.Context) -> str:
    return ctx.event.name


@on("large")
async def large(ctx: inngest.Context) -> Any:
    size = 0
    for n in range(6):
        size += len(await ctx.step.run(f"part {n}", lambda: "x" * 1_000_000))
    await ctx.step.sleep("nap", 100)
    return {"size": size, "attempt": await ctx.step.run("last", lambda: "done")}


@streaming.create_function(fn_id="steps", trigger=inngest.TriggerEvent(event="s/steps"))
async def streamed(ctx: inngest.Context) -> str:
    async def a() -> str:
        await asyncio.sleep(0.1)
        return "a"

    return await ctx.step.run("a", a) + await ctx.step.run("b", lambda: "b")


# -- serving ----------------------------------------------------------------------------------------------------------

site = fastapi.FastAPI()
inngest.fast_api.serve(site, client, functions)
inngest.fast_api.serve(site, streaming, [streamed], serve_path="/api/streaming", streaming=inngest.Streaming.FORCE)


def note_ops(text: bytes, run: str | None) -> None:
    """Note each operation that the SDK tells of."""
    try:
        found = json.loads(text)
    except ValueError:
        return
    ops = [one for one in found if isinstance(one, dict) and "op" in one] if isinstance(found, list) else []
    told = [(one["op"], (one.get("opts") or {}).get("type")) for one in ops]
    if told:
        note(ops=[f"{op} {kind}" if kind else op for op, kind in told], run=run)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Serve, and note each call."""
    if scope["type"] == "lifespan":
        await site(scope, receive, send)
        return
    query = dict(part.partition("=")[::2] for part in scope["query_string"].decode().split("&"))
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}

    parts: list[bytes] = []

    async def sending(message: Any) -> None:
        await send(message)
        parts.append(message.get("body", b""))
        if scope["method"] == "POST" and message["type"] == "http.response.body" and not message.get("more_body"):
            note_ops(b"".join(parts), headers.get("x-run-id"))
        if message["type"] == "http.response.start" and scope["method"] == "POST":
            note(
                call=query.get("fnId"), step=query.get("stepId"), run=headers.get("x-run-id"),
                status=message["status"], version=headers.get("x-inngest-req-version"),
            )  # fmt: skip

    await site(scope, receive, sending)
