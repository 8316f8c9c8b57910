"""Forms: an event that comes as a web page's form: `name`, `id`, `ts` and `v` are its own, other fields its data."""

from email.parser import BytesParser
from email.policy import HTTP
from typing import Any, cast
from urllib.parse import parse_qsl

from stepstream.bus.errors import EventInvalid
from stepstream.bus.values import codec
from stepstream.producers.body import RequestRefused
from stepstream.producers.strict import parse

KINDS = ("application/x-www-form-urlencoded", "multipart/form-data")
_MOST_FIELDS = 1_000
_OWN = ("name", "id", "v")


def kind_of(content_type: str) -> str:
    """Return which kind of form a Content-Type tells of; empty for anything else."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind if kind in KINDS else ""


def event_of_form(body: bytes, content_type: str) -> bytes:
    """Return the event that a form sends, as JSON; EventInvalid for what is no form.

    `data` is a JSON object, where it is given; another field comes beside what that has, as text, or a list of texts.
    """
    event: dict[str, Any] = {}
    several: dict[str, list[str]] = {}
    for name, value in _fields(body, content_type):
        several.setdefault(name, []).append(value)
    given = several.pop("data", ["{}"])[-1]
    read = parse(given.encode())
    if not isinstance(read, dict):
        raise EventInvalid("must be a JSON object in a form", field="data")
    data = cast("dict[str, Any]", read)
    for name, values in several.items():
        if name in _OWN:
            event[name] = values[-1]
        elif name == "ts":
            event[name] = int(values[-1]) if values[-1].isascii() and values[-1].isdecimal() else values[-1]
        else:
            data[name] = values[0] if len(values) == 1 else values
    return codec.encode({**event, "data": data})


def _fields(body: bytes, content_type: str) -> list[tuple[str, str]]:
    try:
        if kind_of(content_type) == KINDS[0]:
            return parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
        return _parts(body, content_type)
    except ValueError as error:  # UnicodeDecodeError is one
        raise EventInvalid(f"the body is no form: {error}") from None


def _parts(body: bytes, content_type: str) -> list[tuple[str, str]]:
    head = f"content-type: {content_type}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + body)
    if not message.is_multipart():
        raise ValueError("it has no parts")
    found: list[tuple[str, str]] = []
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        if part.get_filename() is not None:
            raise RequestRefused(415, "a form with files is not accepted; send JSON")
        content = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(content, bytes):
            found.append((name, content.decode()))
    return found[:_MOST_FIELDS]
