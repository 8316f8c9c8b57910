"""A run of 150 turns that carries 10 MB of memos."""

from typing import Any

from stepstream.bus.bus import Bus

app = Bus("memory")


@app.function("long", on="a", retries=0)
async def long(ctx: Any, step: Any) -> None:
    for n in range(4):
        await step.run(f"big{n}", lambda: "x" * 2_500_000)
    for n in range(150):
        await step.sleep(f"s{n}", 0.001)
