"""The application of tests/sdk/test_realtime.py for the official Python SDK, which publishes and gives tokens."""

import os
from typing import Any

import fastapi
import inngest
import inngest.fast_api
from inngest.experimental import realtime

client = inngest.Inngest(app_id="realtime", is_production=os.environ.get("INNGEST_DEV") in (None, "", "0"))


@client.create_function(fn_id="tell", retries=0, trigger=inngest.TriggerEvent(event="r/tell"))
async def tell(ctx: inngest.Context) -> str:
    channel = str(ctx.event.data["channel"])
    for n, data in enumerate(({"at": "begun", "text": "Zürich ✓"}, {"at": "in a step"})):
        await ctx.step.run(f"tell {n}", realtime.publish, client, channel, "state", data)
    return "told"


app = fastapi.FastAPI()
inngest.fast_api.serve(app, client, [tell])


@app.post("/token")
async def token(asked: dict[str, Any]) -> Any:
    return await realtime.get_subscription_token(client, asked["channel"], asked["topics"])


@app.post("/publish")
async def publish(asked: dict[str, Any]) -> None:
    await realtime.publish(client, asked["channel"], asked["topic"], asked["data"])
