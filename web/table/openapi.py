"""OpenAPI 3.1 of the API, made of what its routes say of themselves (`About`): nothing is told here a second time."""

import re
from collections.abc import Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import msgspec

from stepstream.bus.errors import BusError
from stepstream.bus.values import codec
from stepstream.web.table.about import EVENTS, TEXT, About
from stepstream.web.table.parameters import Fields, FieldUnknown

_PART = re.compile(r"\{(\w+)(:path)?\}")
_LINK = re.compile(r"\[([^]]*)\]\([^)]*\)")
_JSON = "application/json"
_SAFE = {"GET", "HEAD"}
_REF = "#/components/schemas/{name}"


class Refusal(msgspec.Struct, omit_defaults=True):
    """Why a request is refused: `code` is stable, `field` names what is wrong, `number` is where the log has more.

    `unreadable` says of which keys another type of value has the name, so that nobody knows what they held.
    """

    error: str
    status: int
    code: str
    data: None
    field: str = ""
    number: str = ""
    unreadable: list[str] = []


class Told(msgspec.Struct, frozen=True):
    """A route as it is told of: its method, path, what its caller needs, its name, and what it is."""

    method: str
    path: str
    needs: str
    name: str
    about: About


def document(routes: Sequence[Told]) -> dict[str, Any]:
    """Return the API as OpenAPI 3.1."""
    kinds = list(dict.fromkeys([Refusal, *(kind for one in routes for kind in _kinds(one.about))]))
    schemas, components = codec.schemas(kinds, _REF)
    of_kind = dict(zip(map(repr, kinds), schemas, strict=True))
    for one in routes:
        for parameter in one.about.query or ():
            if isinstance(parameter, Fields):  # those that are not named are left out
                components[parameter.row.__name__].pop("required", None)
    paths: dict[str, dict[str, Any]] = {}
    for one in routes:
        path = paths.setdefault(_PART.sub(r"{\1}", one.path), {})
        path[one.method.lower()] = _operation(one, of_kind)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Stepstream", "version": version("stepstream")},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _kinds(about: About) -> list[Any]:
    told = (about.answer, about.sick, about.body.shape if about.body is not None else None)
    return [kind for kind in told if kind is not None and kind not in (EVENTS, TEXT)]


def _operation(one: Told, of_kind: dict[str, Any]) -> dict[str, Any]:
    about = one.about
    operation: dict[str, Any] = {
        "operationId": one.name,
        "summary": _LINK.sub(r"\1", about.summary),
        "parameters": [*_of_path(one.path), *_of_query(about)],
        "responses": _answers(one, of_kind),
    }
    if about.body is not None:
        content = {_JSON: {"schema": of_kind[repr(about.body.shape)]}}
        operation["requestBody"] = {"content": content, "required": not about.body.may_be_empty}
    if one.needs != "nothing":
        operation["security"] = [{}, {"key": []}]  # none where the site has no keys
    return operation


def _of_path(path: str) -> list[dict[str, Any]]:
    return [
        {
            "name": part[1],
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1} | ({} if part[2] else {"pattern": "^[^/]+$"}),
        }
        for part in _PART.finditer(path)
    ]


def _of_query(about: About) -> list[dict[str, Any]]:
    return [
        {"name": one.name, "in": "query", "description": one.words, "schema": one.schema, "required": one.is_needed}
        for one in about.query or ()
    ]


def _answers(one: Told, of_kind: dict[str, Any]) -> dict[str, Any]:
    about = one.about
    done: dict[str, Any] = {"description": HTTPStatus(about.status).phrase}
    if about.answer in (EVENTS, TEXT):
        done["content"] = {about.answer: {"schema": {"type": "string"}}}
    elif about.answer is not None:
        done["content"] = {_JSON: {"schema": of_kind[repr(about.answer)]}}
    found = {str(about.status): done}
    for status, words in sorted(_refusals(one).items()):
        kind = about.sick if status == HTTPStatus.SERVICE_UNAVAILABLE and about.sick is not None else Refusal
        found[str(status)] = {
            "description": words,
            "content": {_JSON: {"schema": of_kind[repr(kind)]}},
        }
    return found


def _refusals(one: Told) -> dict[int, str]:
    """Return the statuses of a route's refusals, each with the codes it may have."""
    codes: dict[int, set[str]] = {421: {"host"}}

    def may(status: int, *code: str) -> None:
        codes.setdefault(status, set()).update(code)

    if one.about.query is not None:
        may(400, "bad_request", "unknown_parameter")
    if any(isinstance(parameter, Fields) for parameter in one.about.query or ()):
        may(FieldUnknown.status, FieldUnknown.code)
    if one.needs != "nothing":
        may(401, "unauthorized")
        may(403, "forbidden")
        may(503, "store_unavailable")
    elif one.about.sick is not None:
        may(503, "not ready")
    if one.method not in _SAFE:
        may(403, "origin")
    if _PART.search(one.path):  # a slash in an id makes another path of it
        may(404, "not_found")
        may(405, "method")
    if one.about.body is not None:
        may(400, "event_invalid")
        for status in (408, 413, 415):
            may(status, "refused")
    for error in one.about.errors:
        may(_status(error), error.code)
    return {status: ", ".join(sorted(those)) for status, those in codes.items()}


def _status(error: type[BusError]) -> int:
    return error.status
