"""What can be done with a function on its page: each once, however often it is pressed."""

import contextlib
from collections.abc import Mapping

import msgspec
from msgspec import Raw
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from stepstream.bus.errors import BusError, FunctionNotFound, StoreUnavailable
from stepstream.checkpoint.actions.forget import forget
from stepstream.checkpoint.actions.invoke import invoke
from stepstream.checkpoint.controls.pauses import pause_function, resume_function
from stepstream.checkpoint.controls.run_one import NotPaused, run_one
from stepstream.checkpoint.registry import function_of
from stepstream.checkpoint.types import invoked_name, schemas_of
from stepstream.producers.strict import parse
from stepstream.web.pages.csrf import received
from stepstream.web.pages.functions.one import read_function
from stepstream.web.pages.page import read_again, show
from stepstream.web.pages.typed import data_of, refused, typed_form
from stepstream.web.routing import NeedsRoute, link
from stepstream.web.store import wire_of
from stepstream.web.trust.principal import PAGE, by


async def _pause(request: Request) -> Response:
    fields = await received(request)
    await pause_function(wire_of(request), slug := request.path_params["slug"], by(request, PAGE))
    return _back(request, slug, fields)


async def _resume(request: Request) -> Response:
    wire, slug = wire_of(request), request.path_params["slug"]
    fields = await received(request)
    await function_of(wire, slug)
    await resume_function(wire, slug)
    return _back(request, slug, fields)


async def _run_one(request: Request) -> Response:
    fields, slug = await received(request), request.path_params["slug"]
    with contextlib.suppress(NotPaused):  # pressed twice, or resumed meanwhile
        await run_one(wire_of(request), slug, by(request, PAGE), fields.get("once", ""))
    return _back(request, slug, fields)


async def _invoke(request: Request) -> Response:
    wire, slug = wire_of(request), request.path_params["slug"]
    fields = await received(request)
    form = typed_form(await schemas_of(wire, invoked_name(slug)))
    try:
        data = data_of(form, fields)
        parse(data)
        run = await invoke(wire, slug, Raw(data), fields.get("request", ""))
    except (FunctionNotFound, StoreUnavailable):
        raise
    except BusError as error:
        if error.status >= 500:
            raise
        view = await read_again(request, read_function(request))
        view = msgspec.structs.replace(view, invoke=refused(form, fields, error), topic="")
        return show(request, "function.html", error.status, page=view, section="functions")
    return RedirectResponse(link(request, "run", id=run), 303)


async def _forget(request: Request) -> Response:
    wire, slug = wire_of(request), request.path_params["slug"]
    fields = await received(request)
    try:
        if fields.get("slug", "").strip() != slug:
            await function_of(wire, slug)
            problem = f"write {slug} to forget it: nothing has been done"
            view = msgspec.structs.replace(await read_again(request, read_function(request)), problem=problem)
            return show(request, "function.html", 400, page=view, section="functions")
        await forget(wire, slug, with_runs=fields.get("with_runs") == "yes")
    except FunctionNotFound:  # pressed twice: it is forgotten
        return RedirectResponse(link(request, "functions"), 303)
    except BusError as error:
        if error.status >= 500:
            raise
        view = msgspec.structs.replace(await read_again(request, read_function(request)), problem=str(error))
        return show(request, "function.html", error.status, page=view, section="functions")
    return RedirectResponse(link(request, "functions"), 303)


def _back(request: Request, slug: str, fields: Mapping[str, str]) -> Response:
    """Send the browser back to the page whose button it was."""
    where = link(request, "schedules") if fields.get("back") == "schedules" else link(request, "function", slug=slug)
    return RedirectResponse(where, 303)


routes = [
    NeedsRoute("POST", "/functions/{slug:path}/pause", _pause, needs="operate", name="pause_function"),
    NeedsRoute("POST", "/functions/{slug:path}/resume", _resume, needs="operate", name="resume_function"),
    NeedsRoute("POST", "/functions/{slug:path}/run-one", _run_one, needs="operate", name="run_one"),
    NeedsRoute("POST", "/functions/{slug:path}/invoke", _invoke, needs="operate", name="invoke"),
    NeedsRoute("POST", "/functions/{slug:path}/forget", _forget, needs="admin", name="forget_function"),
]
