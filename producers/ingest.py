"""Ingest: from a JSON body to checked events, without HTTP. All events are checked before any is stored.

Of an SDK's request (it has a seed) an event that is wrong takes along those behind it, and not those before: an SDK
repeats what failed, under the same ids, and tells its user of those that were taken (docs/decisions/0131).
"""

import difflib
from datetime import datetime
from typing import Any, cast

import msgspec
from msgspec import Raw

from stepstream.bus.errors import EventInvalid
from stepstream.bus.event import (
    MAX_EVENTS,
    Outgoing,
    check_data,
    check_event_id,
    check_name,
    check_ts,
    checked_time,
    moment_of,
)
from stepstream.bus.values import codec
from stepstream.bus.values.ids import ulid
from stepstream.producers.seed import Seed
from stepstream.producers.strict import parse

RESERVED = "_inngest"
"""The field of an event's data that SDKs keep for what a server tells them: nobody else says it."""
_FIELDS = ("name", "data", "id", "ts", "v", "delay", "at", "user", "meta")
"""What an event may have. `user` and `meta` are taken, and not kept: SDKs of others send them."""


class _Received(msgspec.Struct):
    """The raw bytes of an event's data: they are stored as they came."""

    data: Raw = Raw(b"null")


class Taken(msgspec.Struct):
    """The events of a request that are to be stored, and what is wrong with the next one; `is_list`: they came so."""

    events: list[Outgoing]
    is_list: bool
    error: EventInvalid | None = None


def take_events(body: bytes, seed: Seed | None) -> Taken:
    """Return the events of a body, one object or a list of up to 5,000, as far as the first that is wrong.

    EventInvalid where there is none at all.

    With a seed it is an SDK's request: fields that an event does not have are left out, and the list may be empty.
    """
    value = parse(body)
    is_list = isinstance(value, list)
    several = cast("list[Any]", value) if is_list else [value]
    if not several and seed is None:
        raise EventInvalid("the list is empty; send at least one event")
    if len(several) > MAX_EVENTS:
        raise EventInvalid(f"{len(several)} events; at most {MAX_EVENTS} in one request", status=413)
    taken = Taken([], is_list)
    raw: list[Raw] = codec.decode_as(body, list[Raw]) if is_list else [Raw(body)]
    for position, event in enumerate(several):
        try:
            outgoing = _outgoing(_checked(event, seed), raw[position], seed.id_of(position) if seed else "")
        except EventInvalid as error:
            taken.error = error.at(position) if is_list else error
            break
        taken.events.append(outgoing)
    return taken


def _outgoing(event: dict[str, Any], raw: Raw, internal: str) -> Outgoing:
    data = b"{}"
    if event.get("data") is not None:
        data = bytes(codec.decode_as(raw, _Received).data)
        if RESERVED in event["data"]:
            data = codec.encode({name: one for name, one in codec.decode_as(data, dict[str, Raw]).items()
                                 if name != RESERVED})  # fmt: skip
    check_data(data)
    own = event.get("id")
    return Outgoing(
        id=own or internal or ulid(),
        name=event["name"],
        data=data,
        own_id=own is not None,
        ts=event.get("ts") or None,
        v=event.get("v"),
        delay=event["delay"],
        at=event["at"],
        internal=internal,
    )


def _checked(event: Any, seed: Seed | None) -> dict[str, Any]:
    if not isinstance(event, dict):
        raise EventInvalid(f"must be an object with a name, got {_kind(event)}")
    fields = cast("dict[str, Any]", event)
    unknown = next((field for field in fields if field not in _FIELDS), None)
    if seed is not None:
        fields = {name: one for name, one in fields.items() if name in _FIELDS and (name, one) != ("id", "")}
    elif unknown is not None:
        near = difflib.get_close_matches(unknown, _FIELDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(_FIELDS)}"
        raise EventInvalid(f"is no field of an event; {hint}", field=unknown[:60])
    name = fields.get("name")
    if not isinstance(name, str):
        raise EventInvalid(f"must be text, got {_kind(name)}" if "name" in fields else "is missing", field="name")
    check_name(name)
    data = fields.get("data")
    if data is not None and not isinstance(data, dict):
        raise EventInvalid(f"must be an object, got {_kind(data)}", field="data")
    own = fields.get("id")
    if own is not None:
        if not isinstance(own, str):
            raise EventInvalid(f"must be text, got {_kind(own)}", field="id")
        check_event_id(own)
    ts = fields.get("ts")
    if ts is not None and ts != 0:
        if isinstance(ts, bool) or not isinstance(ts, int):
            raise EventInvalid(f"must be Unix milliseconds, got {str(ts)[:40]} ({_kind(ts)})", field="ts")
        check_ts(ts)
    delay, at = fields.get("delay"), fields.get("at")
    if not isinstance(delay, str | int | float | None) or isinstance(delay, bool):
        raise EventInvalid(f"must be seconds or text like '10m', got {_kind(delay)}", field="delay")
    fields["delay"], fields["at"] = checked_time(delay, None if at is None else _moment(at))
    version = fields.get("v")
    if version is not None and (not isinstance(version, str) or len(version) > 128):
        raise EventInvalid("must be text of at most 128 characters", field="v")
    return fields


def _moment(at: Any) -> datetime:
    if not isinstance(at, str):
        raise EventInvalid(f"must be a time like '2026-12-01T09:00:00Z', got {_kind(at)}", field="at")
    return moment_of(at)


def _kind(value: Any) -> str:
    names: dict[type[Any], str] = {
        dict: "an object",
        list: "a list",
        str: "text",
        bool: "true or false",
        type(None): "null",
    }
    return names.get(cast("type[Any]", type(value)), "a number")
