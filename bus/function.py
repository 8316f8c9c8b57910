"""Function: what we do about an event; checked whole when it is declared, so a bad one never starts."""

import hashlib
import inspect
import re
from collections.abc import Awaitable, Callable
from typing import Any

from stepstream.bus.context import Context
from stepstream.bus.cron import Cron
from stepstream.bus.errors import ConfigError
from stepstream.bus.limits import CancelOn, Flow, Timeouts
from stepstream.bus.retry import Retry
from stepstream.bus.step import Step
from stepstream.bus.trigger import Trigger

Handler = Callable[[Context[Any], Step], Awaitable[Any]]

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")


def check_id(what: str, text: str) -> None:
    """Refuse an id that is not letters, digits, `.`, `_`, `/`, `-`, or is over 128 characters."""
    if not _ID.fullmatch(text):
        raise ConfigError(
            f"{what} id {text!r} must be 1 to 128 letters, digits, '.', '_', '/', '-', and begin with a letter or digit"
        )


class Function:
    """A declared function. `slug` (`<bus id>-<function id>`) names its keys, its consumer group and its runs."""

    def __init__(
        self,
        bus_id: str,
        id: str,
        *,
        handler: Handler,
        triggers: tuple[Trigger, ...],
        retry: Retry,
        name: str,
        crons: tuple[Cron, ...] = (),
        failure: "Function | None" = None,
        timeouts: Timeouts | None = None,
        cancel_on: tuple[CancelOn, ...] = (),
        flow: Flow | None = None,
    ) -> None:
        check_id("function", id)
        if not inspect.iscoroutinefunction(handler):
            raise ConfigError(
                f"function '{id}': handler {_name(handler)} is not async; write 'async def', "
                "and call sync code in a step: await step.run('work', sync_code)"
            )
        if len(inspect.signature(handler).parameters) != 2:
            raise ConfigError(f"function '{id}': handler {_name(handler)} must take two arguments: (ctx, step)")
        self.id = id
        self.bus_id = bus_id
        self.slug = f"{bus_id}-{id}"
        self.name = name or id
        self.handler = handler
        self.triggers = triggers
        self.crons = crons
        self.retry = retry
        self.code = _code(handler)
        self.failure = failure
        """What runs when a run of this one has failed: `on_failure`."""
        self.timeouts = timeouts or Timeouts()
        self.cancel_on = cancel_on
        self.flow = flow or Flow()
        self._kinds = {trigger.name: trigger.kind for trigger in triggers}

    def kind_of(self, event_name: str) -> type[Any] | None:
        """Return the payload type declared for an event's name, if any."""
        return self._kinds.get(event_name)

    def triggers_of(self, event_name: str) -> tuple[Trigger, ...]:
        """Return the triggers that are for events of a name, the exact one first."""
        return tuple(sorted((t for t in self.triggers if t.covers(event_name)), key=lambda t: t.is_pattern))

    def __repr__(self) -> str:
        return f"<Function {self.slug}>"


def _name(handler: Any) -> str:
    return getattr(handler, "__qualname__", repr(handler))


def _code(handler: Any) -> str:
    """Return a short fingerprint of the handler: which version of the code a run was started with."""
    try:
        text = inspect.getsource(handler)
    except (OSError, TypeError):
        text = repr(handler)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
