"""An application for a site and a worker that have many secrets: one of its functions works, the other fails."""

from stepstream import Bus, Context, EventData, Step

app = Bus("secrets")


class Asked(EventData, name="asked", redact=["email"]):
    email: str = ""


@app.function("works", on=Asked, retries=0)
async def works(ctx: Context[Asked], step: Step) -> int:
    ctx.logger.info("asked", email=ctx.event.data.email, data=ctx.event.data)
    return await step.run("one", lambda: 1)


@app.function("fails", on="asked", retries=0)
async def fails(ctx: Context[dict], step: Step) -> None:
    raise RuntimeError(f"it cannot: {ctx.event.data}")
