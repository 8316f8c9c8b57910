"""An application of tests/sdk whose worker connects, for the official Python SDK: what js/connect.mjs has.

`python connected.py INSTANCE`; JOURNAL gets a line for each thing done.
"""

import asyncio
import datetime as dt
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import inngest
from inngest.connect import ConnectionState, connect

INSTANCE = sys.argv[1]
client = inngest.Inngest(app_id="wired", is_production=os.environ.get("INNGEST_DEV") in (None, "", "0"))
functions: list[Any] = []


def note(**line: Any) -> None:
    with open(os.environ["JOURNAL"], "a") as journal:
        journal.write(json.dumps({**line, "instance": INSTANCE}) + "\n")


def on(id: str, **options: Any) -> Callable[[Any], Any]:
    def declare(handler: Callable[[inngest.Context], Awaitable[Any]]) -> Any:
        when = inngest.TriggerEvent(event=f"w/{id}")
        functions.append(client.create_function(fn_id=id, trigger=when, **options)(handler))
        return functions[-1]

    return declare


@on("steps")
async def steps(ctx: inngest.Context) -> Any:
    def first() -> int:
        note(step="a", run=ctx.run_id)
        return int(str(ctx.event.data["n"]))

    a = await ctx.step.run("a", first)
    await ctx.step.sleep("nap", dt.timedelta(seconds=0.2))
    both = (lambda: ctx.step.run("b", lambda: a + 1), lambda: ctx.step.run("c", lambda: a + 2))
    b, c = await ctx.group.parallel(both)
    return {"a": a, "b": b, "c": c}


@on("refused", retries=3)
async def refused(ctx: inngest.Context) -> None:
    raise inngest.NonRetriableError("never")


@on("long")
async def long(ctx: inngest.Context) -> Any:
    def first() -> str:
        note(step="first", run=ctx.run_id)
        return INSTANCE

    async def second() -> str:
        note(step="second", run=ctx.run_id)
        while not Path(str(ctx.event.data["until"])).exists():
            await asyncio.sleep(0.05)
        return INSTANCE

    return {"first": await ctx.step.run("first", first), "second": await ctx.step.run("second", second)}


async def main() -> None:
    connection = connect([(client, functions)], instance_id=INSTANCE)

    async def told() -> None:
        await connection.wait_for_state(ConnectionState.ACTIVE)
        note(up=os.getpid(), connection=connection.get_connection_id())

    telling = asyncio.create_task(told())
    await connection.start()
    await telling
    note(closed=os.getpid())


asyncio.run(main())
