"""The admin API, a page of the jobs, and the status page of their runs under /bus.

Run it with `uvicorn poligraph.web:web`.
"""

import contextlib
import uuid
from collections.abc import AsyncGenerator
from importlib.resources import files

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse
from msgspec.json import encode
from pydantic import BaseModel

from poligraph.functions import app
from poligraph.jobs import Jobs, opened
from poligraph.scripts import Flag
from poligraph.trigger import UnknownJob, jobs, requested
from stepstream import BusError, EventInvalid, mount, serve


@contextlib.asynccontextmanager
async def lifespan(web: FastAPI) -> AsyncGenerator[None]:
    """Open the records. `mount` adds to it that the bus and its page close their connections."""
    async with opened() as records:
        web.state.records = records
        yield


web = FastAPI(title="poligraph", lifespan=lifespan)
mount(web, "/bus", serve(app))


class NewJob(BaseModel):
    """What POST /api/admin/jobs takes: the name of a job as on the command line, and flags."""

    job: str
    flags: dict[str, Flag] = {}


class Started(BaseModel):
    """The id of a job that has been started."""

    id: str


def records_of(request: Request) -> Jobs:
    """Return what the lifespan has opened."""
    found: Jobs = request.app.state.records
    return found


@web.post("/api/admin/jobs", status_code=202)
async def start(wanted: NewJob, request: Request) -> Started:
    """Make a job's record and publish its event; the run takes the record over."""
    id, records = uuid.uuid4().hex, records_of(request)
    try:
        event = requested(wanted.job, wanted.flags, id)
    except UnknownJob as error:
        raise HTTPException(404, str(error)) from error
    await records.start(id, wanted.job)
    try:
        await app.send(event)
    except EventInvalid as error:
        await records.withdraw(id)
        raise HTTPException(422, [{"loc": ["body", *error.field.split(".")], "msg": error.reason}]) from error
    except BusError as error:
        await records.fail(id, f"not published: {error}")
        raise HTTPException(503, f"not published: {error}") from error
    return Started(id=id)


@web.get("/api/admin/jobs")
async def latest(request: Request) -> Response:
    """Return the latest jobs."""
    return Response(encode(await records_of(request).latest()), media_type="application/json")


@web.get("/api/admin/jobs/{id}")
async def one(id: str, request: Request) -> Response:
    """Return a job."""
    job = await records_of(request).get(id)
    if job is None:
        raise HTTPException(404, f"there is no job {id}")
    return Response(encode(job), media_type="application/json")


@web.get("/api/admin/names")
async def names() -> list[str]:
    """Return what may be started."""
    return sorted(set(jobs().values()))


@web.get("/", response_class=HTMLResponse)
async def page() -> str:
    """Return the page."""
    return (files("poligraph") / "page.html").read_text()
