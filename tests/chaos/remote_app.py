"""What runs in the storm over functions behind HTTP, of the official Python SDK: what remote_app.mjs has, of each kind one.

`uvicorn remote_app:app`; CHAOS_JOURNAL gets a line for each body before it acts, with the turn and the worker whose call it belongs to.
"""

import asyncio
import contextvars
import datetime as dt
import json
import os
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import fastapi
import inngest
import inngest.fast_api

client = inngest.Inngest(app_id="py", is_production=False)
functions: list[Any] = []
call = contextvars.ContextVar[dict[str, Any]]("call")
_journal = os.open(os.environ["CHAOS_JOURNAL"], os.O_APPEND | os.O_CREAT | os.O_WRONLY)
Work = Callable[..., Awaitable[Any]]


def note(**line: Any) -> None:
    """Write one line, whole or not at all."""
    os.write(_journal, json.dumps({"pid": os.getpid(), "at": time.time() * 1_000, **line}).encode() + b"\n")


def on(id: str, event: str | None = None, **options: Any) -> Callable[[Any], Any]:
    def declare(body: Callable[[inngest.Context, Work], Awaitable[Any]]) -> Any:
        async def handler(ctx: inngest.Context) -> Any:
            async def work(step: str, act: Callable[[], Any] | None = None) -> Any:
                note(run=f"py-{id}|{ctx.run_id}", step=step, what="body", **call.get())
                await asyncio.sleep(random.uniform(0.002, 0.02))
                return act() if act else step

            return await body(ctx, work)

        when = inngest.TriggerEvent(event=event or f"remote/{id.split('-', maxsplit=1)[0]}")
        declared = client.create_function(fn_id=id, trigger=when, **{"retries": 20, **options})(handler)
        functions.append(declared)
        return declared

    return declare


@on("three-plain")
async def three(ctx: inngest.Context, work: Work) -> Any:
    n = int(str(ctx.event.data["n"]))
    if n % 3 == 1:
        several: Any = (
            lambda: ctx.step.run("a", work, "a"), lambda: ctx.step.run("b", work, "b"),
            lambda: ctx.step.run("c", work, "c"), lambda: ctx.step.sleep("nap", 100),
        )  # fmt: skip
        return list(await ctx.group.parallel(several))[:3]
    found = [await ctx.step.run("a", work, "a")]
    if n % 3 == 0:
        await ctx.step.sleep("nap", 50 + n % 5 * 50)
    return [*found, await ctx.step.run("b", work, "b"), await ctx.step.run("c", work, "c")]


@on("child", "remote/nobody-sends-this")
async def child(ctx: inngest.Context, work: Work) -> Any:
    await ctx.step.sleep("nap", 50)
    return await ctx.step.run("a", work, "a")


@on("crossing")
async def crossing(ctx: inngest.Context, work: Work) -> Any:
    n = ctx.event.data["n"]
    patience = dt.timedelta(seconds=900)
    condition = "async.data.n == event.data.n && async.data.of == 'py'"
    several: Any = (
        lambda: ctx.step.wait_for_event("reply", event="remote/reply", timeout=patience, if_exp=condition),
        lambda: ctx.step.send_event("tell", inngest.Event(name="remote/reply", data={"n": n, "of": "py"})),
        lambda: ctx.step.invoke("call", function=child, data={"n": n}),
        lambda: ctx.step.run("a", work, "a"),
    )
    reply, _, called, mine = await ctx.group.parallel(several)
    return [reply.data["n"] == n if reply else None, called, mine]


@on("limited", concurrency=[inngest.Concurrency(limit=2, key="event.data.k")])
async def limited(ctx: inngest.Context, work: Work) -> Any:
    first = await ctx.step.run("a", work, "a")
    if int(str(ctx.event.data["n"])) % 2:
        await ctx.step.sleep("nap", 50)
    return [first, await ctx.step.run("b", work, "b")]


@on("patient", retries=0)
async def patient(ctx: inngest.Context, work: Work) -> Any:
    await ctx.step.run("a", work, "a")
    return ctx.attempt


async def tell_failure(ctx: inngest.Context) -> Any:
    await ctx.step.run("told", lambda: 1)
    return ctx.event.data["run_id"]


@on("failing", on_failure=tell_failure)
async def failing(ctx: inngest.Context, work: Work) -> Any:
    n = int(str(ctx.event.data["n"]))

    def bad() -> str:
        if n % 3 == 0:
            raise inngest.NonRetriableError("never")
        if n % 3 == 1 and ctx.attempt == 0:
            raise inngest.RetryAfterError("not yet", 1_000)
        return "good"

    first = await ctx.step.run("a", work, "a")
    return [first, await ctx.step.run("bad", work, "bad", bad)]


site = fastapi.FastAPI()
inngest.fast_api.serve(site, client, functions)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Serve; a call's turn is known to its bodies."""
    parts: list[dict[str, Any]] = []
    if scope["type"] == "http" and scope["method"] == "POST":
        while not parts or parts[-1].get("more_body"):
            parts.append(await receive())
        if parts[-1]["type"] == "http.disconnect":  # who called was killed
            return
        ctx = json.loads(b"".join(part["body"] for part in parts))["ctx"]
        query = dict(part.partition("=")[::2] for part in scope["query_string"].decode().split("&"))
        call.set({"turn": int(ctx["job_id"].partition(".")[2]), "owner": ctx["qi_id"]})
        note(run=f"{query['fnId']}|{ctx['run_id']}", step=query["stepId"], what="called", **call.get())

    async def received() -> Any:
        return parts.pop(0) if parts else await receive()

    await site(scope, received, send)
