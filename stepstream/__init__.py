"""Stepstream: durable functions over Redis Streams.

Declare functions on a `Bus` and send events with it; `Worker(app)` runs them, `Harness(app)` tests them,
`create_app(app)` and `serve(app)` make the HTTP API and the status page.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepstream.bus.bus import NewEvent
    from stepstream.bus.context import Context
    from stepstream.bus.cron import Cron
    from stepstream.bus.errors import (
        BadRequest,
        BusError,
        ConfigError,
        Conflict,
        EventInvalid,
        FunctionNotFound,
        HasEnded,
        InUse,
        NobodyWaits,
        NonRetriable,
        NotBegun,
        NotFound,
        ProcessFailed,
        RetryAfter,
        RunError,
        RunFailed,
        RunNotFound,
        RunUnfinished,
        StepFailed,
        StepNotFound,
        StepstreamError,
        StoreError,
        StoreUnavailable,
        Unavailable,
    )
    from stepstream.bus.event import Event, EventData, event
    from stepstream.bus.function import Function
    from stepstream.bus.limits.cancel_on import CancelOn
    from stepstream.bus.limits.rules import Batch, Concurrency, Debounce, RateLimit, Singleton, Throttle
    from stepstream.bus.limits.timeouts import Timeouts
    from stepstream.bus.retry import Exponential, Retry
    from stepstream.bus.step import Fetched, ProcessResult, Step
    from stepstream.bus.system_events import ErrorInfo, FunctionCancelled, FunctionFailed, FunctionFinished
    from stepstream.bus.trigger import On
    from stepstream.bus.wire.publishing import PublishFailed, Sent
    from stepstream.checkpoint.client.application import Bus
    from stepstream.consumers.testing.harness import Harness
    from stepstream.consumers.worker import Worker
    from stepstream.web.app import create_app
    from stepstream.web.mounting import mount
    from stepstream.web.serving.server import serve

_WHERE = {
    "bus.bus": "NewEvent",
    "bus.context": "Context",
    "bus.cron": "Cron",
    "bus.errors": (
        "BadRequest BusError ConfigError Conflict EventInvalid FunctionNotFound HasEnded InUse "
        "NobodyWaits NonRetriable NotBegun NotFound ProcessFailed RetryAfter RunError RunFailed "
        "RunNotFound RunUnfinished StepFailed StepNotFound StepstreamError StoreError StoreUnavailable "
        "Unavailable"
    ),
    "bus.event": "Event EventData event",
    "bus.function": "Function",
    "bus.limits.cancel_on": "CancelOn",
    "bus.limits.rules": "Batch Concurrency Debounce RateLimit Singleton Throttle",
    "bus.limits.timeouts": "Timeouts",
    "bus.retry": "Exponential Retry",
    "bus.step": "Fetched ProcessResult Step",
    "bus.system_events": "ErrorInfo FunctionCancelled FunctionFailed FunctionFinished",
    "bus.trigger": "On",
    "bus.wire.publishing": "PublishFailed Sent",
    "checkpoint.client.application": "Bus",
    "consumers.testing.harness": "Harness",
    "consumers.worker": "Worker",
    "web.app": "create_app",
    "web.mounting": "mount",
    "web.serving.server": "serve",
}
"""Which module has each name. It is imported when the name is first used: `bus --help` needs none, who only publishes
neither the engine nor the site.
"""
_MODULE_OF = {name: f"stepstream.{module}" for module, names in _WHERE.items() for name in names.split()}

__all__ = [
    "BadRequest",
    "Batch",
    "Bus",
    "BusError",
    "CancelOn",
    "Concurrency",
    "ConfigError",
    "Conflict",
    "Context",
    "Cron",
    "Debounce",
    "ErrorInfo",
    "Event",
    "EventData",
    "EventInvalid",
    "Exponential",
    "Fetched",
    "Function",
    "FunctionCancelled",
    "FunctionFailed",
    "FunctionFinished",
    "FunctionNotFound",
    "Harness",
    "HasEnded",
    "InUse",
    "NewEvent",
    "NobodyWaits",
    "NonRetriable",
    "NotBegun",
    "NotFound",
    "On",
    "ProcessFailed",
    "ProcessResult",
    "PublishFailed",
    "RateLimit",
    "Retry",
    "RetryAfter",
    "RunError",
    "RunFailed",
    "RunNotFound",
    "RunUnfinished",
    "Sent",
    "Singleton",
    "Step",
    "StepFailed",
    "StepNotFound",
    "StepstreamError",
    "StoreError",
    "StoreUnavailable",
    "Throttle",
    "Timeouts",
    "Unavailable",
    "Worker",
    "create_app",
    "event",
    "mount",
    "serve",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'stepstream' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_MODULE_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
