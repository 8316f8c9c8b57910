"""The durable function: five steps from a photo to a plushie, each done once whatever happens between them.

Run it with `bus dev plushify.functions:app`.
"""

import base64
import re

import msgspec
from stand_ins import outside

from plushify.pictures import analyze, draw_plushie
from plushify.studio import Studio, opened
from stepstream import (
    Bus,
    Concurrency,
    Context,
    EventData,
    Exponential,
    FunctionCancelled,
    FunctionFailed,
    On,
    Retry,
    Step,
)


class GenerateRequested(EventData, name="plushie/generate.requested", rename="camel"):
    """Somebody wants a plushie of a photo. `image_data` is base64."""

    generation_id: str
    user_id: str
    image_data: str
    image_type: str


class Made(msgspec.Struct, rename="camel"):
    """A plushie that has been made: the name of its blob, and what it has left of its owner's credits."""

    plushie: str
    credits_left: int


app = Bus("plushify", lifespan=opened)


_of_step = re.compile(r"^step '[^']*': ")
"""How the error of a run begins that a step has failed: of no use to those who look at the gallery."""


async def clean_up(ctx: Context[FunctionFailed | FunctionCancelled, Studio], step: Step) -> list[str]:
    """A generation has failed: say so, and delete the blobs that exist. No credit was taken, so none is given back."""
    ended, at = ctx.event.data, ctx.state
    generation = str(ended.event.data["generationId"])
    why = _of_step.sub("", ended.error.message) if ended.error else "it was cancelled"
    await step.run("mark-failed", at.fail, generation, ended.event.id, why)
    deleted = await step.run("delete-blobs", at.discard, f"{generation}/{ended.run_id}")
    ctx.logger.warning("a generation has failed", generation=generation, why=why, deleted=deleted)
    return deleted


@app.function(
    "generate-plushie",
    on=GenerateRequested,
    retries=Retry(3, backoff=Exponential("1s", 2, "1m")),
    on_failure=clean_up,
    concurrency=Concurrency(5, key="event.data.userId"),  # five of a user's at once, the rest in line
)
async def generate_plushie(ctx: Context[GenerateRequested, Studio], step: Step) -> Made:
    """Make a plushie; the last step takes the credit."""
    request, at = ctx.event.data, ctx.state
    id = request.generation_id

    async def upload(name: str, content: str) -> str:
        await outside(f"blob/{name}")
        # In a folder of this run's: when another has failed, what it cleans up is not what a retry has put there.
        return at.put(f"{id}/{ctx.run_id}/{name}", base64.b64decode(content))

    async def finalize() -> int:
        await outside(f"credits/{id}")
        return await at.complete(id, request.user_id, plushie)

    name = f"original.{request.image_type.partition('/')[2]}"
    original = await step.run("upload-original", upload, name, request.image_data)
    look = await step.run("analyze-image", analyze, at.blob(original), id, timeout="30s")
    ctx.logger.info("seen", width=look.width, height=look.height, colour=look.colour)
    drawn = await step.run("generate-plushie", draw_plushie, at.blob(original), look, id, timeout="2m")
    plushie = await step.run("upload-generated", upload, "plushie.png", drawn)
    left = await step.run("finalize", finalize)
    return Made(plushie, left)


generation_cancelled = app.function(
    "generation-cancelled",
    on=On(FunctionCancelled, if_="event.data.function_id == 'plushify-generate-plushie'"),
)(clean_up)
