"""An application for a site and a worker that have many secrets: one of its functions works, the other fails."""

from stepstream import Bus, Context, Step

app = Bus("secrets")


@app.function("works", on="asked", retries=0)
async def works(ctx: Context[dict], step: Step) -> int:
    return await step.run("one", lambda: 1)


@app.function("fails", on="asked", retries=0)
async def fails(ctx: Context[dict], step: Step) -> None:
    raise RuntimeError("it cannot")
