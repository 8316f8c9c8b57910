"""Letters, by the official Python SDK: nothing in here knows which server calls it."""

from datetime import timedelta

import fastapi
import inngest
import inngest.fast_api

client = inngest.Inngest(app_id="letters", is_production=False)


@client.create_function(
    fn_id="deliver",
    trigger=inngest.TriggerEvent(event="letters/letter.written"),
    concurrency=[inngest.Concurrency(limit=1, key="event.data.to")],
)
async def deliver(ctx: inngest.Context) -> str:
    """Deliver one letter; those to one person go one after the other."""
    return await ctx.step.run("post", lambda: f"{ctx.event.data['text']} -> {ctx.event.data['to']}")


@client.create_function(fn_id="welcome", trigger=inngest.TriggerEvent(event="letters/user.joined"), retries=3)
async def welcome(ctx: inngest.Context) -> dict[str, object]:
    """Welcome who joins, wait until the address is confirmed, or remind of it."""
    user = ctx.event.data["user"]
    first = await ctx.step.invoke("welcome", function=deliver, data={"to": user, "text": "welcome"})
    await ctx.step.sleep("a moment", timedelta(seconds=1))
    confirmed = await ctx.step.wait_for_event(
        "confirmed",
        event="letters/user.confirmed",
        if_exp="event.data.user == async.data.user",
        timeout=timedelta(hours=1),
    )
    if confirmed is None:
        await ctx.step.invoke("remind", function=deliver, data={"to": user, "text": "still there?"})
    return {"first": first, "confirmed": confirmed is not None}


@client.create_function(
    fn_id="digest",
    trigger=[inngest.TriggerCron(cron="TZ=Europe/Paris 0 7 * * 1"), inngest.TriggerEvent(event="letters/digest.asked")],
)
async def digest(ctx: inngest.Context) -> str:
    """Write the digest each Monday."""
    return await ctx.step.run("write", lambda: "nothing happened")


app = fastapi.FastAPI()
inngest.fast_api.serve(app, client, [deliver, welcome, digest])
