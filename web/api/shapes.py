"""Shapes: events and runs with the names that users of the official SDKs know from the hosted service's REST API."""

from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Raw

from stepstream.bus.event import RawEvent
from stepstream.bus.values import codec
from stepstream.bus.values.clock import now_ms
from stepstream.checkpoint.read.arrivals import Arrival
from stepstream.checkpoint.run.record import Run

ACCOUNT, ENVIRONMENT = "00000000-0000-4000-a000-000000000000", "00000000-0000-4000-b000-000000000000"
"""The one account and the one environment there are, under the ids that a development server gives them."""

_STATUSES = {
    "queued": "Scheduled",
    "running": "Running",
    "waiting": "Running",
    "completed": "Completed",
    "failed": "Failed",
    "cancelled": "Cancelled",
    "skipped": "Skipped",
}


def moment(ms: int) -> str:
    """Return a time, Unix ms, as RFC 3339 in UTC."""
    return datetime.fromtimestamp(ms / 1_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def answer(data: Any, **more: Any) -> dict[str, Any]:
    """Return what is answered with, in an envelope that says when it was read; `more` comes beside that."""
    return {"data": data, "metadata": {"fetched_at": moment(now_ms()), "cached_until": None, **more}}


def status_of(run: Run) -> str:
    """Return a run's status as the hosted service calls it."""
    return _STATUSES.get(run.status, run.status.capitalize())


def output_of(run: Run) -> Raw | None:
    """Return what a run returned, or the error object it ended with: as the SDK told it, where one did."""
    if run.error is not None and run.status != "completed":
        if run.error.original:
            return Raw(run.error.original.encode())
        return Raw(codec.encode({"name": run.error.name, "message": run.error.message, "stack": run.error.stack}))
    return run.output


def event_of(run: Run) -> RawEvent | None:
    """Return the event of a run; None where it cannot be read."""
    try:
        return codec.decode_as(run.event, RawEvent) if run.event is not None else None
    except msgspec.DecodeError:
        return None


def event_shape(arrival: Arrival, name: str | None = None) -> dict[str, Any]:
    """Return an event as it came; `name` is another name that it is asked for by."""
    event = arrival.event
    told = {
        "internal_id": arrival.internal,
        "account_id": ACCOUNT,
        "environment_id": ENVIRONMENT,
        "source": "api",
        "source_id": None,
        "received_at": moment(arrival.received),
        "id": event.id,
        "name": name or event.name,
        "data": event.data,
        "ts": event.ts,
    }
    return told if event.v is None else {**told, "v": event.v}


def run_fields(run: Run) -> dict[str, Any]:
    """Return what the hosted service tells of a run and our own API under another name, or not; but not the status."""
    event = event_of(run)
    return {
        "run_id": run.id,
        "run_started_at": moment(run.started or run.queued),
        "function_id": run.function,
        "function_version": 1,
        "environment_id": ENVIRONMENT,
        "event_id": None if event is None else event.id,
        "ended_at": None if run.ended is None else moment(run.ended),
        "output": output_of(run),
    }


def run_shape(run: Run) -> dict[str, Any]:
    """Return a run as the hosted service tells of it."""
    return {**run_fields(run), "status": status_of(run)}
