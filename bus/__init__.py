"""Stepstream: durable functions over Redis Streams.

The front door: declare functions on a `Bus`, send events with it. `from consumers import Worker` runs them, `from web
import create_app` makes the site.
"""

from bus.bus import Bus, NewEvent
from bus.context import Context
from bus.cron import Cron
from bus.errors import (
    BusError,
    ConfigError,
    EventInvalid,
    NonRetriable,
    NotFound,
    RetryAfter,
    StepFailed,
    StoreUnavailable,
)
from bus.event import Event, EventData
from bus.flow import Batch, CancelOn, Concurrency, Debounce, RateLimit, Singleton, Throttle, Timeouts
from bus.function import Function
from bus.retry import Exponential, Retry
from bus.step import Step
from bus.trigger import On

__all__ = [
    "Batch",
    "Bus",
    "BusError",
    "CancelOn",
    "Concurrency",
    "ConfigError",
    "Context",
    "Cron",
    "Debounce",
    "Event",
    "EventData",
    "EventInvalid",
    "Exponential",
    "Function",
    "NewEvent",
    "NonRetriable",
    "NotFound",
    "On",
    "RateLimit",
    "Retry",
    "RetryAfter",
    "Singleton",
    "Step",
    "StepFailed",
    "StoreUnavailable",
    "Throttle",
    "Timeouts",
]
