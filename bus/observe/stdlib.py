"""What the standard library writes inside a run: records of logging, and what is printed.

Nothing here takes a place that a user's own configuration may want: no handler is added to any logger, no level is
lowered that was set. A record says which run it belongs to from the moment it is made (setLogRecordFactory), and one of
a replay is made below every level. Where there is no handler, logging itself falls back to `lastResort`: ours.
"""

import logging
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from stepstream.bus.process import scope

_SILENT = -1
"""The level of a record that no handler takes: those without a level take from 0 on."""
_LOUD = ("httpx2", "httpcore2")
"""Libraries of ours that log every request of a fetch."""
_TAGS = ("function", "run", "step", "attempt", "trace")
_LONGEST = 8_192
_LOOKED_AT = 16


def tag_records() -> None:
    """Let each record of logging say `bus_function`, `bus_run`, `bus_step`, `bus_attempt`, `bus_trace`.

    All are empty outside runs. Once per process.
    """
    before = logging.getLogRecordFactory()
    if isinstance(before, _Tagging):
        return
    logging.setLogRecordFactory(_Tagging(before))


class _Tagging:
    """Makes records as before, with the run's names; what a run logs is kept with it too."""

    def __init__(self, before: Callable[..., logging.LogRecord]) -> None:
        self._before = before

    def __call__(self, *args: Any, **more: Any) -> logging.LogRecord:
        record = self._before(*args, **more)
        here = scope.current.get()
        tags = {} if here is None else scope.tags(here)
        for name in _TAGS:
            setattr(record, f"bus_{name}", tags.get(name, ""))
        if here is None:
            return record
        if here.is_silent():
            record.levelno = _SILENT
            return record
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001 - its arguments do not fit: its handler says so
            text = str(record.msg)
        scope.keep(here, text, record.levelname.lower(), record.exc_info)
        return record


def show_records(write: Callable[[dict[str, Any]], None], level: int) -> None:
    """Show records of loggers that nobody has configured. Call it when the application is loaded.

    The root's level is set only if the application has left it, and its handlers, as they were.
    """
    logging.lastResort = _Fallback(write, level)
    root = logging.getLogger()
    if root.level == logging.WARNING and not root.handlers:
        root.setLevel(level)
    for name in _LOUD:
        if logging.getLogger(name).level == logging.NOTSET:
            logging.getLogger(name).setLevel(logging.WARNING)


class _Fallback(logging.Handler):
    """Shows a record as our own lines are shown."""

    def __init__(self, write: Callable[[dict[str, Any]], None], level: int) -> None:
        super().__init__(level)
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        try:
            tags = {name: getattr(record, f"bus_{name}", "") for name in _TAGS}
            line: dict[str, Any] = {
                "event": record.getMessage(),
                "level": record.levelname.lower(),
                "logger": record.name,
            }
            line |= {name: value for name, value in tags.items() if value}
            if record.exc_info:
                line["exc_info"] = record.exc_info
            self._write(line)
        except Exception:  # noqa: BLE001 - logging's own way with what cannot be shown
            self.handleError(record)


class Printed:
    """Stands for sys.stdout or sys.stderr: what a run writes there becomes lines that say which run, and that are kept
    with it.

    All else passes as it is: what is written outside runs, and what logging libraries write. `name` is told as the
    logger of the lines.
    """

    def __init__(self, name: str, real: TextIO, write: Callable[[dict[str, Any]], None]) -> None:
        self._name = name
        self._real = real
        self._write = write
        scope.when_turn_ends.append(self._end)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def write(self, text: str) -> int:
        """Write text, as TextIO does."""
        if not isinstance(text, str):  # type: ignore[redundant-expr]  # click asks in this way what it may write
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        here = scope.current.get()
        if here is None:
            return self._real.write(text)
        library = _writing_library()
        if library:
            if library != "logging" and text.strip():  # its records are kept when they are made
                scope.keep(here, text, "")
            return self._real.write(text)
        if here.is_silent():
            return len(text)
        begun = (self._name, threading.get_ident())
        *lines, rest = (here.unfinished.pop(begun, "") + text).split("\n")
        if len(rest) > _LONGEST:
            lines.append(rest)
        elif rest:
            here.unfinished[begun] = rest
        self._tell(here, lines)
        return len(text)

    def writelines(self, lines: Sequence[str]) -> None:
        """Write several pieces of text."""
        for line in lines:
            self.write(line)

    def _end(self, here: scope.Scope) -> None:
        """A turn of a run ends: what it has printed without an end of line is a line."""
        begun = [one for one in here.unfinished if one[0] == self._name]
        self._tell(here, [here.unfinished.pop(one) for one in begun])

    def _tell(self, here: scope.Scope, lines: Sequence[str]) -> None:
        inside, tags = scope.step.get(), scope.tags(here)
        for line in lines:
            if line.strip():
                here.write("print", line, step=inside)
            self._write({"event": line, "logger": self._name, **tags})


def _writing_library() -> str:
    """Return the logging library that writes, if one does; it is a few frames up."""
    frame: Any = sys._getframe(2)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    for _ in range(_LOOKED_AT):
        if frame is None:
            return ""
        name = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if name in ("logging", "structlog", "loguru"):
            return name
        frame = frame.f_back
    return ""
