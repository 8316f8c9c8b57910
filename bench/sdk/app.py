"""The functions of `python -m bench.remote` with the official Python SDK: `python app.py PORT`."""

import asyncio
import datetime as dt
import sys
import time

import fastapi
import inngest
import inngest.fast_api
import uvicorn

client = inngest.Inngest(app_id="bench-py", is_production=False)


async def one() -> int:
    return 1


@client.create_function(fn_id="five", trigger=inngest.TriggerEvent(event="bench-py/five"))
async def five(ctx: inngest.Context) -> int:
    return sum([await ctx.step.run(f"s{n}", one) for n in range(5)])


@client.create_function(fn_id="now", trigger=inngest.TriggerEvent(event="bench-py/now"))
async def now(ctx: inngest.Context) -> float:
    return time.time() * 1_000 - float(str(ctx.event.data["sent"]))


@client.create_function(fn_id="asleep", trigger=inngest.TriggerEvent(event="bench-py/asleep"))
async def asleep(ctx: inngest.Context) -> None:
    await ctx.step.sleep("nap", dt.timedelta(hours=1))


@client.create_function(fn_id="slow", trigger=inngest.TriggerEvent(event="bench-py/slow"))
async def slow(ctx: inngest.Context) -> None:
    await asyncio.sleep(float(str(ctx.event.data["seconds"])))


app = fastapi.FastAPI()
inngest.fast_api.serve(app, client, [five, now, asleep, slow])
uvicorn.run(app, port=int(sys.argv[1]), log_level="warning")
