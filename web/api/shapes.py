"""Shapes: events and runs with the names that users of the official SDKs know from the hosted service's REST API."""

from typing import Any, Generic, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType
from msgspec.structs import asdict

from stepstream.bus.event import RawEvent
from stepstream.bus.values import codec
from stepstream.bus.values.clock import now_ms, utc
from stepstream.checkpoint.read.lists.arrivals import Arrival
from stepstream.checkpoint.read.run.trace import trace_of_run
from stepstream.checkpoint.read.run.verdict import Verdict
from stepstream.checkpoint.run.record import Run, stored_json

ACCOUNT, ENVIRONMENT = "00000000-0000-4000-a000-000000000000", "00000000-0000-4000-b000-000000000000"
"""The one account and the one environment there are, under the ids that a development server gives them."""

T = TypeVar("T")

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
    return utc(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """When an answer was read, RFC 3339."""

    fetched_at: str
    cached_until: None = None


class PageMetadata(Metadata, frozen=True, kw_only=True):
    """The same, and where the next page begins (null: there is none)."""

    cursor: str | None


class Answer(msgspec.Struct, Generic[T], frozen=True):
    """What is answered with, in an envelope that says when it was read."""

    data: T
    metadata: Metadata


class PageAnswer(msgspec.Struct, Generic[T], frozen=True):
    """A page of what is answered with."""

    data: list[T]
    metadata: PageMetadata


class Plain(msgspec.Struct, Generic[T], frozen=True):
    """What is answered with."""

    data: T


class Listed(msgspec.Struct, Generic[T], frozen=True):
    """A page of a list, and the cursor of the next (null: there is none)."""

    data: list[T]
    cursor: str | None


class EventTold(msgspec.Struct, frozen=True, kw_only=True):
    """An event as it came, as the hosted service tells of it."""

    internal_id: str
    account_id: str = ACCOUNT
    environment_id: str = ENVIRONMENT
    source: str = "api"
    source_id: None = None
    received_at: str
    id: str
    name: str
    data: Raw
    ts: int
    v: str | UnsetType = UNSET
    entry: str = ""
    """Its entry in the stream of its name; empty where it is not known."""
    kept_by: str | UnsetType = UNSET
    """The run that keeps it, where its stream has let go of it."""


class RunTold(msgspec.Struct, frozen=True, kw_only=True):
    """A run as the hosted service tells of it. Of one that has ended otherwise, `output` is its error."""

    run_id: str
    run_started_at: str
    function_id: str
    function_version: int = 1
    environment_id: str = ENVIRONMENT
    event_id: str | None
    ended_at: str | None
    output: Raw | None
    status: str


class RunWhole(Run, kw_only=True):
    """A run as our own API tells of it, and under the hosted service's names; `status` is ours, in small letters."""

    run_id: str
    run_started_at: str
    function_id: str
    function_version: int
    environment_id: str
    event_id: str | None
    ended_at: str | None
    output: Raw | None  # type: ignore[misc] - without a default it is told whether there is one or not
    verdict: Verdict
    trace: str
    """The id of the trace that it is in: that of what has sent its event, or one of its own."""


def answer(data: T) -> Answer[T]:
    """Return what is answered with, in its envelope."""
    return Answer(data, Metadata(fetched_at=moment(now_ms())))


def page_answer(data: list[T], cursor: str | None) -> PageAnswer[T]:
    """Return a page of what is answered with, in its envelope."""
    return PageAnswer(data, PageMetadata(fetched_at=moment(now_ms()), cursor=cursor))


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


def event_shape(arrival: Arrival, name: str | None = None, kept_by: str = "") -> EventTold:
    """Return an event as it came; `name` is another name that it is asked for by, `kept_by` the run that keeps it."""
    event = arrival.event
    return EventTold(
        internal_id=arrival.internal,
        received_at=moment(arrival.received),
        id=event.id,
        name=name or event.name,
        data=stored_json(bytes(event.data)) or Raw(b"null"),
        ts=event.ts,
        v=UNSET if event.v is None else event.v,
        entry=arrival.entry,
        kept_by=kept_by or UNSET,
    )


def run_shape(run: Run) -> RunTold:
    """Return a run as the hosted service tells of it."""
    event = event_of(run)
    return RunTold(
        run_id=run.id,
        run_started_at=moment(run.started or run.queued),
        function_id=run.function,
        event_id=None if event is None else event.id,
        ended_at=None if run.ended is None else moment(run.ended),
        output=output_of(run),
        status=status_of(run),
    )


def run_whole(run: Run, verdict: Verdict) -> RunWhole:
    """Return a run under our names and the hosted service's; where both have one, it is as ours."""
    told: dict[str, Any] = {**asdict(run_shape(run)), **asdict(run)}
    told["output"] = output_of(run) if run.output is None else run.output
    return RunWhole(**told, verdict=verdict, trace=trace_of_run(run).id)
