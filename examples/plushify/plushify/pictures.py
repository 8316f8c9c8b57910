"""The models: one looks at a photo, one draws the plushie. Stand-ins that really make an image, with Pillow."""

import base64
import io
from pathlib import Path

import anyio.to_thread
import msgspec
from PIL import Image, ImageDraw, ImageFilter, ImageOps
from stand_ins import outside, outside_sync

from stepstream import NonRetriable


class Look(msgspec.Struct):
    """What the model sees in a photo."""

    width: int
    height: int
    colour: str


def analyze(original: Path, generation: str) -> Look:
    """Look at the photo. Sync code: it runs in the worker's threads."""
    outside_sync(f"model/look/{generation}")
    try:
        with Image.open(original) as opened:
            dot = ImageOps.fit(opened.convert("RGB"), (1, 1), Image.Resampling.BOX)
            return Look(opened.width, opened.height, f"#{dot.tobytes().hex()}")
    except (OSError, SyntaxError, ValueError) as error:
        raise NonRetriable("this is not an image that can be read") from error


async def draw_plushie(original: Path, look: Look, generation: str) -> str:
    """Ask the model, which takes its time. Returns a PNG, base64."""
    await outside(f"model/draw/{generation}")
    return await anyio.to_thread.run_sync(_soften, original, look)


SIZE = 320


def _soften(original: Path, look: Look) -> str:
    """Make a round, soft animal of the photo: two ears, button eyes, a seam."""
    with Image.open(original) as opened:
        photo = ImageOps.exif_transpose(opened).convert("RGB")
    fabric = ImageOps.posterize(ImageOps.fit(photo, (SIZE, SIZE)).filter(ImageFilter.GaussianBlur(4)), 4)
    shape = Image.new("L", (SIZE, SIZE), 0)
    outline = ImageDraw.Draw(shape)
    for box in ((46, 24, 126, 104), (194, 24, 274, 104), (30, 50, 290, 300)):
        outline.ellipse(box, fill=255)
    plushie = Image.new("RGB", (SIZE, SIZE), "#f4efe8")
    shadow = Image.new("L", (SIZE, SIZE), 0)
    ImageDraw.Draw(shadow).ellipse((60, 278, 260, 310), fill=90)
    plushie.paste("#b9ad9c", mask=shadow.filter(ImageFilter.GaussianBlur(8)))
    plushie.paste(fabric, mask=shape.filter(ImageFilter.GaussianBlur(2)))
    face = ImageDraw.Draw(plushie)
    for x in (72, 220):
        face.ellipse((x, 48, x + 28, 76), fill=look.colour)
    for x in (118, 202):
        face.ellipse((x - 16, 128, x + 16, 160), fill="#2b2622")
        face.ellipse((x - 9, 132, x - 1, 140), fill="#ffffff")
    face.ellipse((146, 172, 174, 190), fill="#3a2f2a")
    face.arc((128, 178, 160, 208), 10, 150, fill="#3a2f2a", width=4)
    face.arc((160, 178, 192, 208), 30, 170, fill="#3a2f2a", width=4)
    for y in range(222, 294, 12):
        face.line((160, y, 160, y + 6), fill="#fff8ee", width=3)
    out = io.BytesIO()
    plushie.save(out, "PNG", optimize=True)
    return base64.b64encode(out.getvalue()).decode()


def photo(colour: str, size: int = 320) -> bytes:
    """Draw a photo to begin with: a PNG."""
    image = Image.new("RGB", (size, size), colour)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, size * 2 // 3, size, size), fill="#7a9a64")
    draw.ellipse((size // 4, size // 5, size * 3 // 4, size * 4 // 5), fill="#c98d5a")
    for x in (size * 3 // 8, size * 5 // 8):
        draw.ellipse((x - 8, size * 7 // 16, x + 8, size * 7 // 16 + 16), fill="#222222")
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()
