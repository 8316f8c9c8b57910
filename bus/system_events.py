"""The events that tell how a run has ended, of any bus on the same Redis; `on_failure` handlers receive the first."""

from typing import Any, ClassVar

import msgspec

from stepstream.bus.event import Event, EventData

FAILED, FINISHED, CANCELLED = "bus/function.failed", "bus/function.finished", "bus/function.cancelled"
SYSTEM = frozenset({FAILED, FINISHED, CANCELLED})
"""Reserved names that functions may be triggered by."""
INVOKED = "bus/function.invoked"
"""The name of the event of a run that was invoked."""


class ErrorInfo(msgspec.Struct, frozen=True):
    """An error as it was recorded: the exception's class name, its message, its stack."""

    name: str
    message: str
    stack: str = ""


class FunctionFailed(EventData):
    """A run has failed: its function's slug, its id, its event with plain data, and the error."""

    event_name: ClassVar[str] = FAILED
    function_id: str
    run_id: str
    event: Event[Any]
    error: ErrorInfo
    status: str = "failed"


class FunctionFinished(EventData):
    """A run has ended; `status` is `completed`, `failed` or `cancelled`. It has a result or an error."""

    event_name: ClassVar[str] = FINISHED
    function_id: str
    run_id: str
    event: Event[Any]
    status: str
    result: Any = None
    error: ErrorInfo | None = None


class FunctionCancelled(EventData):
    """A run was cancelled; `error` says why."""

    event_name: ClassVar[str] = CANCELLED
    function_id: str
    run_id: str
    event: Event[Any]
    error: ErrorInfo | None = None
    status: str = "cancelled"
