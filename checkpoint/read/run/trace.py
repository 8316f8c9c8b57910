"""Trace: in which trace a run is, for people who look it up where traces are kept."""

import msgspec

from stepstream.bus.observe.traceparent import shown_trace
from stepstream.bus.settings import TRACE_ID
from stepstream.bus.values import codec
from stepstream.checkpoint.run.record import Run


class Trace(msgspec.Struct, frozen=True):
    """The id of a run's trace, and where it is shown; empty: nobody has said where, by BUS_TRACE_URL.

    `is_given`: it is that of what has sent the run's event. Else it is made of the run's id, and whether anybody has
    made spans of it is not known.
    """

    id: str
    is_given: bool
    url: str = ""

    @property
    def is_of_use(self) -> bool:
        """Whether people are to be told of it: where nothing is traced, it would be a word without a meaning."""
        return self.is_given or bool(self.url)


class _Traced(msgspec.Struct):
    trace: str | None = None


def trace_of_run(run: Run, url: str = "") -> Trace:
    """Return the trace of a run; `url` is BUS_TRACE_URL."""
    try:
        given = codec.decode_as(run.event, _Traced).trace if run.event is not None else None
    except msgspec.MsgspecError:  # written by hand
        given = None
    found = shown_trace(run.id, given)
    return Trace(found, given is not None, url.replace(TRACE_ID, found))
