"""What somebody does by a route of the site is written down: in the audit log, with what came of it."""

from collections.abc import Awaitable, Callable

import structlog
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from stepstream.bus.errors import BusError
from stepstream.checkpoint.audit_log import DONE, Act, record, told
from stepstream.web.paths import of_the_api
from stepstream.web.store import wire_of
from stepstream.web.trust.principal import API, PAGE, Principal, principal_of

_log = structlog.get_logger("web")
_ON = "stepstream.on"


def acts_on(request: HTTPConnection, *parts: str) -> None:
    """Say what a request is about that its path does not name."""
    request.scope[_ON] = " ".join(part for part in parts if part)


async def written_down(request: Request, name: str, endpoint: Callable[[Request], Awaitable[Response]]) -> Response:
    """Let an endpoint act, and write down what came of it."""
    outcome = "broken: the log says why"
    try:
        response = await endpoint(request)
        outcome = DONE if response.status_code < 400 else f"refused: {response.status_code}"
    except BusError as error:
        outcome = str(error)
        raise
    finally:
        await write_down(request, name, principal_of(request), outcome)
    return response


async def write_down(request: Request, name: str, who: Principal, outcome: str) -> None:
    """Write down what somebody has done, or was refused."""
    about = " ".join([*map(str, request.path_params.values()), request.scope.get(_ON, "")]).strip()
    act = Act(
        who=who.name,
        way=API if of_the_api(request) else PAGE,
        what=name.removeprefix("api_"),
        on=about,
        source=request.client.host if request.client is not None else "",
        outcome=outcome,
    )
    line = told(act)
    _log.info("acted", **line)
    try:
        await record(wire_of(request), act)
    except BusError as error:  # it has been done by then
        _log.error("an act is not in the audit log", **line, why=str(error))
