"""What can be done with events on their pages: send one, replay one, pause and resume a name; each once."""

from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from stepstream.bus.errors import BadRequest, BusError, StoreUnavailable
from stepstream.bus.values import codec
from stepstream.checkpoint.actions.replay import replay
from stepstream.checkpoint.controls.pauses import pause_event, resume_event
from stepstream.checkpoint.read.event.kept import Clue
from stepstream.checkpoint.types import schemas_of
from stepstream.producers.ingest import take_events
from stepstream.producers.strict import parse
from stepstream.web.pages.csrf import received
from stepstream.web.pages.events.name import read_name
from stepstream.web.pages.page import read_again, show
from stepstream.web.pages.typed import data_of, refused, typed_form
from stepstream.web.routing import NeedsRoute, link
from stepstream.web.store import wire_of
from stepstream.web.trust.audit import acts_on
from stepstream.web.trust.principal import PAGE, by

_PATIENCE_S = 5.0


async def _send(request: Request) -> Response:
    """Publish an event under the id that the page has given it, by which it is stored once."""
    wire, fields = wire_of(request), await received(request)
    name = fields.get("name", "")
    acts_on(request, name, fields.get("id", ""))
    form = typed_form(await schemas_of(wire, name))
    try:
        data = data_of(form, fields)
        parse(data)
        head = codec.encode({"name": name, "id": fields.get("id", "")})
        taken = take_events(head[:-1] + b',"data":' + data + b"}", None)
        if taken.error is not None:
            raise taken.error
        [event] = taken.events
        await request.app.state.store.publisher.publish([event], patience=_PATIENCE_S)
    except StoreUnavailable:
        raise
    except BusError as error:
        if error.status >= 500:
            raise
        view = await read_again(request, read_name(wire, name))
        view = msgspec.structs.replace(view, form=refused(form, fields, error), topic="")
        return show(request, "event_name.html", error.status, page=view, section="events")
    return RedirectResponse(link(request, "event", id=event.id), 303)


async def _replay(request: Request) -> Response:
    fields = await received(request)
    acts_on(request, fields.get("id", ""), fields.get("function", ""))
    clue = Clue(*(fields.get(name, "") for name in ("run", "name", "entry")))
    asked = (fields.get("id", ""), fields.get("function", ""), fields.get("request", ""))
    made = await replay(wire_of(request), *asked, clue)
    if len(made.runs) == 1:
        return RedirectResponse(link(request, "run", id=made.runs[0].run), 303)
    if not made.runs:
        raise BadRequest("; ".join(f"{one.function} {one.why}" for one in made.left_out))
    return RedirectResponse(f"{link(request, 'runs')}?{urlencode({'event': made.name, 'source': 'replay'})}", 303)


async def _pause(request: Request) -> Response:
    name = (await received(request)).get("name", "")
    acts_on(request, name)
    await pause_event(wire_of(request), name, by(request, PAGE))
    return RedirectResponse(link(request, "event_name", event=name), 303)


async def _resume(request: Request) -> Response:
    name = (await received(request)).get("name", "")
    acts_on(request, name)
    await resume_event(wire_of(request), name)
    return RedirectResponse(link(request, "event_name", event=name), 303)


routes = [
    NeedsRoute("POST", "/events/send", _send, needs="operate", name="send_event"),
    NeedsRoute("POST", "/events/replay", _replay, needs="operate", name="replay_event"),
    NeedsRoute("POST", "/events/pause", _pause, needs="operate", name="pause_event"),
    NeedsRoute("POST", "/events/resume", _resume, needs="operate", name="resume_event"),
]
