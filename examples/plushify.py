"""plushify: a photo becomes a plushie, in five steps that survive crashes.

    bus dev examples.plushify:app

The AI is a local stand-in that really makes an image (Pillow). Blobs are files, credits are in Redis. One request in
four meets an overloaded model once and is tried again after a second; an image that is none ends its run at once.
"""

import base64
import contextlib
import hashlib
import io
import os
from collections.abc import AsyncGenerator
from pathlib import Path

import anyio
import msgspec
from PIL import Image, ImageDraw, ImageFilter, ImageOps
from redis.asyncio import Redis

from stepstream import Bus, Concurrency, Context, EventData, Exponential, FunctionFailed, NonRetriable, Retry, Step
from stepstream.bus.settings import read

BLOBS = Path(os.environ.get("PLUSHIFY_BLOBS", ".bus/plushify"))
MODEL_SECONDS = float(os.environ.get("PLUSHIFY_MODEL_SECONDS", "0.4"))


class GenerateRequested(EventData, name="plushie/generate.requested", rename="camel"):
    """Somebody wants a plushie of a photo. `image_data` is base64."""

    generation_id: str
    user_id: str
    image_data: str
    image_type: str


class Look(msgspec.Struct):
    """What the model sees in a photo."""

    width: int
    height: int
    colour: str


class Studio:
    """What every run needs: where blobs are, and the credits."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        # One step, one credit: the charge is remembered beside the status, so a repeated step takes no second one.
        self._finalize = redis.register_script("""
            if redis.call('HSETNX', KEYS[2], 'charged', '1') == 1 then
              redis.call('DECR', KEYS[1])
            end
            redis.call('HSET', KEYS[2], 'status', 'completed', 'url', ARGV[1])
            return redis.call('GET', KEYS[1])
        """)

    def blob(self, name: str) -> Path:
        """Return the path of a blob; a name that would leave the folder is refused."""
        path = (BLOBS / name).resolve()
        if not path.is_relative_to(BLOBS.resolve()):
            raise NonRetriable(f"blob name {name!r} leaves the folder")
        return path

    async def put(self, name: str, content: bytes) -> str:
        """Store a blob whole: another name first, then the rename."""
        path = self.blob(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(path.suffix + ".part")
        await anyio.Path(half).write_bytes(content)
        half.replace(path)
        return name

    async def complete(self, user: str, generation: str, url: str) -> int:
        """Take one credit and mark the generation completed, in one act; return the credits left."""
        return int(await self._finalize(keys=[credits_key(user), f"plushify:generation:{generation}"], args=[url]))

    async def failed(self, generation: str, why: str) -> None:
        """Mark a generation failed, and why."""
        await self.redis.hset(f"plushify:generation:{generation}", mapping={"status": "failed", "error": why})

    def discard(self, generation: str) -> list[str]:
        """Delete the blobs a generation has; return their names."""
        folder = self.blob(generation)
        found = sorted(folder.iterdir()) if folder.is_dir() else []
        for path in found:
            path.unlink()
        return [path.name for path in found]


def credits_key(user: str) -> str:
    """Where a user's credits are."""
    return f"plushify:credits:{user}"


@contextlib.asynccontextmanager
async def studio() -> AsyncGenerator[Studio]:
    """Open what every run needs, once a worker."""
    redis = Redis.from_url(read()[0].redis_url)
    try:
        yield Studio(redis)
    finally:
        await redis.aclose()


app = Bus("plushify", lifespan=studio)


async def give_up(ctx: Context[FunctionFailed, Studio], step: Step) -> list[str]:
    """A generation has failed: say so, and delete the blobs that exist. No credit was taken, so none is given back."""
    failed = ctx.event.data
    generation = str(failed.event.data["generationId"])
    await step.run("mark-failed", ctx.state.failed, generation, failed.error.message)
    return await step.run("delete-blobs", ctx.state.discard, generation)


@app.function(
    "generate-plushie",
    on=GenerateRequested,
    retries=Retry(3, backoff=Exponential("1s", 2, "1m")),
    on_failure=give_up,
    concurrency=Concurrency(5, key="event.data.userId"),  # five of a user's at once, the rest in line
)
async def generate_plushie(ctx: Context[GenerateRequested, Studio], step: Step) -> dict[str, object]:
    """Five steps; each is done once, whatever happens between them."""
    request, at = ctx.event.data, ctx.state

    async def upload_original() -> str:
        original = base64.b64decode(request.image_data, validate=False)
        return await at.put(f"{request.generation_id}/original.{request.image_type.partition('/')[2]}", original)

    original = await step.run("upload-original", upload_original)
    look = await step.run("analyze-image", analyze, at.blob(original), timeout="30s")
    ctx.logger.info("seen", width=look.width, height=look.height, colour=look.colour)
    plushie = await step.run("generate-plushie", draw_plushie, at.blob(original), look, request.generation_id)

    async def upload_generated() -> str:
        return await at.put(f"{request.generation_id}/plushie.png", base64.b64decode(plushie))

    url = await step.run("upload-generated", upload_generated)
    left = await step.run("finalize", at.complete, request.user_id, request.generation_id, url)
    return {"url": url, "creditsLeft": left}


def analyze(original: Path) -> Look:
    """Look at the photo. Sync code: it runs in the worker's threads."""
    try:
        with Image.open(original) as photo:
            photo.load()
            red, green, blue = photo.convert("RGB").resize((1, 1)).getpixel((0, 0))  # type: ignore[misc]
            return Look(photo.width, photo.height, f"#{red:02x}{green:02x}{blue:02x}")
    except (OSError, SyntaxError, ValueError) as error:
        raise NonRetriable(f"this is no image: {error}") from error


async def draw_plushie(original: Path, look: Look, generation: str) -> str:
    """Ask the model, which takes its time and now and then is overloaded. Returns a PNG, base64."""
    await anyio.sleep(MODEL_SECONDS)
    await _overloaded_once(original.parent, generation)
    return await anyio.to_thread.run_sync(_soften, original, look)


async def _overloaded_once(folder: Path, generation: str) -> None:
    if hashlib.sha256(generation.encode()).digest()[0] % 4 == 0:
        try:
            (folder / "overloaded").touch(exist_ok=False)
        except FileExistsError:
            return
        raise ConnectionError("the model is overloaded; try again")


def _soften(original: Path, look: Look) -> str:
    """Make the photo round and soft, with two button eyes."""
    with Image.open(original) as photo:
        soft = ImageOps.fit(photo.convert("RGB"), (256, 256)).filter(ImageFilter.GaussianBlur(3))
    soft = ImageOps.posterize(soft, 3)
    mask = Image.new("L", soft.size, 0)
    ImageDraw.Draw(mask).ellipse((8, 8, 248, 248), fill=255)
    plushie = Image.new("RGB", soft.size, look.colour)
    plushie.paste(soft, mask=mask.filter(ImageFilter.GaussianBlur(2)))
    eyes = ImageDraw.Draw(plushie)
    for x in (96, 160):
        eyes.ellipse((x - 12, 92, x + 12, 116), fill="#2b2b2b")
        eyes.ellipse((x - 7, 96, x - 1, 102), fill="#ffffff")
    out = io.BytesIO()
    plushie.save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def photo(colour: str, size: int = 320) -> bytes:
    """Draw a photo to begin with: a PNG."""
    image = Image.new("RGB", (size, size), colour)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, size * 2 // 3, size, size), fill="#7a9a64")
    draw.ellipse((size // 4, size // 5, size * 3 // 4, size * 4 // 5), fill="#c98d5a")
    draw.ellipse((size // 3, size // 3, size // 3 + 20, size // 3 + 20), fill="#222222")
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()
