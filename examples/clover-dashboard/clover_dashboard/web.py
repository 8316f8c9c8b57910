"""The web application: asks for collections, shows them, and has the status page of their runs under /bus.

Run it with `uvicorn clover_dashboard.web:web`.
"""

import contextlib
import uuid
from collections.abc import AsyncGenerator
from importlib.resources import files
from typing import Annotated

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field

from clover_dashboard.collections import Collections, opened
from clover_dashboard.functions import CollectionStart, app
from clover_dashboard.models import Model
from stepstream import BusError, mount, serve


@contextlib.asynccontextmanager
async def lifespan(web: FastAPI) -> AsyncGenerator[None]:
    """Open what requests need. `mount` adds to it that the bus and its page close their connections."""
    async with opened() as collections:
        web.state.collections = collections
        yield


web = FastAPI(title="clover-dashboard", lifespan=lifespan)
mount(web, "/bus", serve(app))

Line = Annotated[str, Field(min_length=1, max_length=200)]


class NewCollection(BaseModel):
    """What POST /api/collections takes."""

    brand: Line
    queries: list[Line] = Field(min_length=1, max_length=20)
    models: list[Model] = Field(min_length=1)


class Asked(BaseModel):
    """The id of a collection that has been asked for."""

    id: str


class Shown(BaseModel):
    """A collection as the page shows it."""

    id: str
    brand: str
    done: bool
    mentions: dict[str, int]


def collections_of(request: Request) -> Collections:
    """Return what the lifespan has opened."""
    found: Collections = request.app.state.collections
    return found


@web.post("/api/collections", status_code=202)
async def start(wanted: NewCollection, request: Request) -> Asked:
    """Ask for a collection, and answer at once. FastAPI answers 422 with the field and the reason to bad input."""
    id = uuid.uuid4().hex
    await collections_of(request).begin(id, wanted.brand)
    queries, models = list(dict.fromkeys(wanted.queries)), list(dict.fromkeys(wanted.models))
    try:
        await app.send(CollectionStart(id, wanted.brand, queries, models), id=id)
    except BusError as error:
        await collections_of(request).withdraw(id)
        raise HTTPException(503, f"not asked for: {error}") from error
    return Asked(id=id)


@web.get("/api/collections")
async def latest(request: Request) -> list[Shown]:
    """Return the latest collections."""
    return [
        Shown(
            id=one.id,
            brand=one.brand,
            done=one.answers is not None,
            mentions={f"{answer.model}: {answer.query}": answer.mentions for answer in one.answers or []},
        )
        for one in await collections_of(request).latest()
    ]


@web.get("/", response_class=HTMLResponse)
async def page() -> str:
    """Return the page."""
    return (files("clover_dashboard") / "page.html").read_text()
