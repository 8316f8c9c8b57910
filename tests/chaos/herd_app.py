"""Ten thousand runs that all sleep until one moment."""

from datetime import UTC, datetime

from stepstream import Bus, Context, Step

app = Bus("herd")


@app.function("sleeper", on="herd/sleep")
async def sleeper(ctx: Context[dict], step: Step) -> None:
    await step.sleep_until("nap", datetime.fromtimestamp(ctx.event.data["until"], UTC))
