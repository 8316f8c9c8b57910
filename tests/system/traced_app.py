"""An application whose worker is killed in the middle of a step; for traces that go over processes."""

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

from stepstream import Bus, Context, Step

app = Bus("shop")


async def stand_still() -> str:
    """Return at once where the first attempt was cut off; else never."""
    begun = Path(os.environ["BEGUN"])
    if begun.exists():
        return "second"
    begun.touch()
    await asyncio.Event().wait()
    raise AssertionError


@app.function("ship", on="paid")
async def ship(ctx: Context[dict[str, Any]], step: Step) -> str:
    await step.run("label", lambda: "l1")
    await step.sleep("night", 0.05)
    done = await step.run("parcel", stand_still)
    await step.invoke("thank", thank, {})
    return done


@app.function("thank")
async def thank(ctx: Context[dict[str, Any]], step: Step) -> None:
    logging.getLogger("shop.mail").warning("thanks")
