"""The web front: a Starlette application with the gallery, its actions, and the status page of the runs under /bus.

Run it with `uvicorn plushify.web:web`. Who asks is a cookie, in place of a login.
"""

import contextlib
from collections.abc import AsyncGenerator
from importlib.resources import files
from typing import TypedDict

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from plushify import actions
from plushify.actions import MOST_BYTES, NotYours
from plushify.functions import app
from plushify.studio import Refused, Studio, opened
from stepstream import BusError, mount, serve

USER = "plushify-user"


class State(TypedDict):
    """What requests need."""

    studio: Studio


@contextlib.asynccontextmanager
async def lifespan(_web: Starlette) -> AsyncGenerator[State]:
    """Open the studio."""
    async with opened() as studio:
        yield {"studio": studio}


def studio_of(request: Request) -> Studio:
    """Return what the lifespan has opened."""
    found: Studio = request.state.studio
    return found


def user_of(request: Request) -> str:
    """Return who asks."""
    return request.cookies.get(USER, "ada")


def told(value: msgspec.Struct, status: int = 200) -> Response:
    """Return an answer as JSON."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


async def submit(request: Request) -> Response:
    """Take a photo: the body is the file, its content-type the file's."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            break
    image_type = request.headers.get("content-type", "").partition(";")[0]
    return told(await actions.submit(studio_of(request), user_of(request), image_type, bytes(body)), 202)


async def status(request: Request) -> Response:
    """Tell its owner how a generation is."""
    return told(await actions.status(studio_of(request), user_of(request), request.path_params["id"]))


async def retry(request: Request) -> Response:
    """Try a failed one again."""
    return told(await actions.retry(studio_of(request), user_of(request), request.path_params["id"]), 202)


async def gallery(request: Request) -> Response:
    """Return what the gallery shows."""
    return told(await actions.gallery(studio_of(request), user_of(request)))


async def original(request: Request) -> Response:
    """Return the photo of a generation."""
    studio, id = studio_of(request), request.path_params["id"]
    found = await actions.status(studio, user_of(request), id)
    guard = {"X-Content-Type-Options": "nosniff"}
    return Response(await studio.original(id), media_type=found.image_type, headers=guard)


async def plushie(request: Request) -> Response:
    """Return the plushie of a generation."""
    image = await actions.plushie(studio_of(request), user_of(request), request.path_params["id"])
    return Response(image, media_type="image/png")


async def page(_request: Request) -> Response:
    """Return the page."""
    return HTMLResponse((files("plushify") / "gallery.html").read_text())


async def refused(_request: Request, error: Exception) -> Response:
    """Say why something is not possible now."""
    return JSONResponse({"error": str(error)}, 409)


async def not_yours(_request: Request, _error: Exception) -> Response:
    """Say that there is nothing of that id, to those whose it is not."""
    return JSONResponse({"error": "There is no such generation of yours."}, 404)


async def not_now(_request: Request, _error: Exception) -> Response:
    """Say that it cannot be asked for now."""
    return JSONResponse({"error": "Plushies cannot be made right now. Please try again in a minute."}, 503)


web = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/", page),
        Route("/api/gallery", gallery),
        Route("/api/generations", submit, methods=["POST"]),
        Route("/api/generations/{id}", status),
        Route("/api/generations/{id}/retry", retry, methods=["POST"]),
        Route("/images/{id}/original", original),
        Route("/images/{id}/plushie", plushie),
    ],
    exception_handlers={Refused: refused, NotYours: not_yours, BusError: not_now},
)
mount(web, "/bus", serve(app))
