"""What somebody can do: submit a photo, ask how it is, try again, look at the gallery. Who asks is known already."""

import base64
import uuid

import msgspec

from plushify.functions import GenerateRequested, app
from plushify.studio import Generation, Refused, Status, Studio
from stepstream import BusError

TYPES = ("image/png", "image/jpeg", "image/webp")
MOST_BYTES = 2 * 1024 * 1024
"""As base64 it fits into an event, which holds 3 MiB."""
POLL_EVERY_S = 3
GIVE_UP_AFTER_S = 300
"""How often the gallery asks for the status of what is in process, and for how long."""


class NotYours(Exception):
    """There is no such generation, or it is somebody else's: who asks is not told which."""


class Gallery(msgspec.Struct, rename="camel"):
    """What the gallery shows."""

    user: str
    credits: str
    can_submit: bool
    generations: list[Generation]
    poll_every_s: int = POLL_EVERY_S
    give_up_after_s: int = GIVE_UP_AFTER_S


async def submit(studio: Studio, user: str, image_type: str, image: bytes) -> Generation:
    """Ask for a plushie, and answer at once. Refused says why not."""
    if image_type not in TYPES:
        raise Refused(f"Please choose a PNG, JPEG or WebP image, not {image_type or 'a file of unknown type'}.")
    if not 0 < len(image) <= MOST_BYTES:
        raise Refused(f"Please choose an image of at most {MOST_BYTES // 1024 // 1024} MB.")
    made = await studio.begin(uuid.uuid4().hex, user, image_type, image)
    try:
        await _ask_for(made, image)
    except BusError:
        await studio.withdraw(made.id)
        raise
    return made


async def retry(studio: Studio, user: str, id: str) -> Generation:
    """Ask again for one that has failed, with the photo that is stored."""
    await status(studio, user, id)
    again = await studio.begin_again(id, user)
    try:
        await _ask_for(again, await studio.original(id))
    except BusError as error:
        await studio.fail(id, again.asked_by, f"could not be tried again: {error}")
        raise
    return again


async def status(studio: Studio, user: str, id: str) -> Generation:
    """Return how a generation is; NotYours to anybody but its owner."""
    found = await studio.get(id)
    if found is None or found.user != user:
        raise NotYours(id)
    return found


async def gallery(studio: Studio, user: str) -> Gallery:
    """Return somebody's generations and credits."""
    has = await studio.credits(user)
    return Gallery(user, str(has), has.available > 0, await studio.of(user))


async def plushie(studio: Studio, user: str, id: str) -> bytes:
    """Return the image of a plushie that has been made."""
    if (await status(studio, user, id)).status is not Status.COMPLETED:
        raise NotYours(id)
    return await studio.plushie(id)


async def _ask_for(wanted: Generation, image: bytes) -> None:
    data = base64.b64encode(image).decode()
    # The id makes it idempotent: what is sent twice, because the first answer was lost, runs once.
    await app.send(GenerateRequested(wanted.id, wanted.user, data, wanted.image_type), id=wanted.asked_by)
