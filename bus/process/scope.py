"""Scope: which run, and which step of it, the code that now runs belongs to; so whatever it logs or prints says so.

Context variables: they follow the run's tasks, and its sync bodies into their threads. A thread that the author's code
starts itself begins without them.
"""

import contextvars
import traceback
from collections.abc import Callable, MutableMapping
from typing import Any, Literal, Protocol, cast

import structlog

Source = Literal["log", "print", "out", "err", "bus"]
"""Who wrote a line: a logger, print, a command on its standard output or error, or the engine."""


class Scope(Protocol):
    """A run at work in this process, as its log lines see it."""

    unfinished: dict[tuple[str, int], str]
    """What its threads have printed since the last line ended, by where to and by thread."""

    @property
    def function(self) -> str:
        """The function's slug."""
        ...

    @property
    def run(self) -> str:
        """The run's id."""
        ...

    @property
    def trace(self) -> str:
        """The id of the run's trace."""
        ...

    def attempt_of(self, step: str) -> int:
        """Return which attempt of a step is under way, of the code between steps where it is empty; from 1."""
        ...

    def is_silent(self) -> bool:
        """Whether the handler is where an earlier turn has been: its lines were written then."""
        ...

    def write(self, source: Source, text: str, *, step: str = "", level: str = "") -> None:
        """Add a line to the run's log; from any thread."""
        ...


current: contextvars.ContextVar[Scope | None] = contextvars.ContextVar("run", default=None)
step: contextvars.ContextVar[str] = contextvars.ContextVar("step", default="")
"""The step whose body runs, where no other may be called; empty between steps."""

when_turn_ends: list[Callable[[Scope], None]] = []
"""Called with the scope of each turn that ends and has printed something that is no whole line yet."""

OURS = "_ours"
"""What the engine binds to its own loggers: its lines say themselves which run they are about."""
_TAGS = ("function", "run", "step", "attempt", "trace", "exc_info", "exception")


def in_run(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Say of a structlog line which run and step it belongs to, and keep it with the run; drop it in a replay."""
    here = current.get()
    if event.pop(OURS, False) or here is None:
        return event
    if here.is_silent():
        raise structlog.DropEvent
    for name, value in tags(here).items():
        event.setdefault(name, value)
    if not hasattr(logger, "makeRecord"):  # else it becomes a record of logging, which is kept as such
        more = (f"{name}={value}" for name, value in event.items() if name != "event" and name not in _TAGS)
        text = " ".join([str(event.get("event", "")), *more])
        keep(here, text, method, event.get("exc_info"))
    return event


def tags(here: Scope) -> dict[str, Any]:
    """Return what a line says of where it was written: function, run, step (in a body only), attempt and trace."""
    inside = step.get()
    where: dict[str, Any] = {"function": here.function, "run": here.run, **({"step": inside} if inside else {})}
    return {**where, "attempt": here.attempt_of(inside), "trace": here.trace}


def keep(here: Scope, text: str, level: str, exc_info: Any = None) -> None:
    """Add a log line to a run's log, and the traceback that comes with it."""
    if isinstance(exc_info, BaseException):
        text += "\n" + "".join(traceback.format_exception(exc_info))
    elif isinstance(exc_info, tuple):
        text += "\n" + "".join(traceback.format_exception(cast("Any", exc_info)[1]))
    elif exc_info:
        text += "\n" + traceback.format_exc()
    inside = step.get()
    for line in text.rstrip().split("\n"):
        here.write("log", line, step=inside, level="error" if level == "exception" else level)
