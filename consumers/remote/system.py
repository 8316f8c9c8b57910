"""Names that differ between SDKs and the store: of functions, and of the events that the bus makes itself.

`stored_…` makes the store's of an SDK's, `sdk_…` the SDK's of the store's.
"""

import re
from typing import Any, Final, cast

import msgspec
from msgspec import Raw

from stepstream.bus.encryption import sealing
from stepstream.bus.event import RawEvent
from stepstream.bus.system_events import CANCELLED, FAILED, FINISHED, INVOKED
from stepstream.bus.values import codec
from stepstream.producers.cron import TICK
from stepstream.producers.ingest import RESERVED

_STORED_NAMES: Final = {
    "inngest/function.failed": FAILED,
    "inngest/function.finished": FINISHED,
    "inngest/function.cancelled": CANCELLED,
    "inngest/function.invoked": INVOKED,
    "inngest/scheduled.timer": TICK,
}
_SDK_NAMES: Final = {ours: theirs for theirs, ours in _STORED_NAMES.items()}
_STATUSES: Final = {"completed": "Completed", "failed": "Failed", "cancelled": "Cancelled"}


_ODD: Final = re.compile(r"[^A-Za-z0-9._/-]|U(?=\.[0-9A-F]+\.)")
_SPELT: Final = re.compile(r"U\.([0-9A-F]+)\.")
_SAME_FUNCTION: Final = re.compile(r"""(\s*event\.data\.function_id\s*==\s*)(['"])(.*)\2\s*""", re.DOTALL)


def stored_slug(theirs: str) -> str:
    """Return an id of an application or a function as slugs here are: "send mail" is `sendU.20.mail`.

    Ids of SDKs are any text. Two of them never become one, and an ordinary one is as it is.
    """
    return _ODD.sub(lambda found: f"U.{ord(found[0]):X}.", theirs)


def sdk_slug(ours: str) -> str:
    """Return an id as the SDK has given it."""
    return _SPELT.sub(lambda found: chr(int(found[1], 16)), ours)


def stored_condition(text: str | None) -> str | None:
    """Return a condition on the end of a run of one function (`onFailure`), of which the store has our slug."""
    found = _SAME_FUNCTION.fullmatch(text or "")
    return text if found is None else f"{found[1]}{found[2]}{stored_slug(found[3])}{found[2]}"


def stored_event_name(name: str) -> str:
    """Return the name that an event has in the store: the SDK's, unless the bus itself makes such events."""
    return _STORED_NAMES.get(name, name)


def sdk_event_name(name: str) -> str:
    """Return the name by which an SDK knows an event."""
    return _SDK_NAMES.get(name, name)


def sdk_event(event: RawEvent, slug: str = "") -> RawEvent:
    """Return an event with the name and the data that SDKs know: those differ only where the bus itself makes it.

    `slug` is the function that it started.
    """
    if event.name not in _SDK_NAMES:
        return event
    try:
        data = Raw(codec.encode(_data(event.name, codec.decode(sealing.opened_raw(event.data)), slug)))
    except msgspec.MsgspecError:  # added by hand
        data = event.data
    return RawEvent(event.id, _SDK_NAMES[event.name], data, event.ts, event.v)


def _data(name: str, stored: Any, slug: str) -> Any:
    if not isinstance(stored, dict):
        return stored
    found = cast("dict[str, Any]", stored)
    if name == INVOKED:
        return {**found, RESERVED: {"fn_id": sdk_slug(slug)}} if slug else found
    return _tick(found) if name == TICK else _end(found)


def _tick(stored: dict[str, Any]) -> dict[str, Any]:
    zone, cron, at = stored.get("tz", "UTC"), stored.get("cron", ""), stored.get("scheduledAt", "")
    return {"cron": cron if zone == "UTC" else f"TZ={zone} {cron}", "scheduledAt": at, "fireAt": at}


def _end(stored: dict[str, Any]) -> dict[str, Any]:
    """Return what is told of a run that has ended."""
    status = _STATUSES.get(stored.get("status", ""), "")
    own: dict[str, Any] = stored.get("event") or {}
    slug = str(stored.get("function_id") or "")
    several = [_event(one, slug) for one in own.get("batch") or [own]]
    told: dict[str, Any] = {
        RESERVED: {"status": status},
        "function_id": sdk_slug(slug),
        "run_id": stored.get("run_id"),
        "event": several[0],
        "events": several,
    }
    if "result" in stored:
        told["result"] = stored["result"]
    error: dict[str, Any] | None = stored.get("error")
    if error is not None and status == "Failed":
        # Of an SDK's error the hosted service tells how the call ended, and handlers of failures compare that.
        why = "invalid status code: 500" if error.get("original") else f"{error.get('name')}: {error.get('message')}"
        told["error"] = {"error": why, **{field: one for field, one in error.items() if field != "original"}}
    return told


def _event(stored: dict[str, Any], slug: str) -> dict[str, Any]:
    """Return the event of a function's run, inside another event, as an SDK knows it."""
    name = stored.get("name", "")
    data = _data(name, stored.get("data"), slug) if name in _SDK_NAMES else stored.get("data")
    inside = {field: one for field, one in stored.items() if field not in {"batch", "name", "data"}}
    return {"name": sdk_event_name(name), "data": data, "user": {}, **inside}
