"""Logs: set structlog up once per process, and turn signals into lines."""

import logging
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import structlog

from stepstream.bus.function import Function
from stepstream.bus.observe.hidden import HIDDEN
from stepstream.bus.observe.signals import AttemptFailed, Noticed, RunEnded, RunSuspended, Signals
from stepstream.bus.observe.stdlib import Printed, show_records, tag_records
from stepstream.bus.observe.traceparent import shown_trace
from stepstream.bus.process.scope import OURS, in_run
from stepstream.bus.process.terminal import plain_lines
from stepstream.bus.settings import Settings
from stepstream.bus.values.durations import in_words

_MOST_NAMED = 10


def configure(settings: Settings) -> None:
    """Set structlog up: JSON lines, or text on a terminal; on standard error, so that printed tables stay clean."""
    structlog.configure(
        processors=[
            in_run,
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            *_rendering(settings),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.log_level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def tell(log_format: str, words: str, *, shown: str = "", level: str = "info", **fields: object) -> None:
    """Say on standard error what becomes of a process that goes on: what listens where, that it works, that it ends.

    Where its log is JSON (`log_format` is that of the settings) that is a line of it, with `fields`, so that whoever
    collects the log finds nothing else there; else it is the words alone, or what is to be `shown` in their place.
    """
    text = shown or words
    if _is_json(log_format):
        made: Any = {**fields, "event": words, "level": level}
        for processor in _AS_JSON:
            made = processor(None, level, made)
        text = str(made)
    else:
        text = plain_lines(text)
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _is_json(log_format: str) -> bool:
    return log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())


_AS_JSON = (
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.JSONRenderer(ensure_ascii=False),
)


def _rendering(settings: Settings) -> list[Any]:
    """Return the processors that make text of a line: JSON, or what people read on a terminal."""
    as_json = _is_json(settings.log_format)
    HIDDEN.patterns(settings.redact)
    render: Any = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if as_json
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    return [
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        HIDDEN.line,
        *(() if as_json else (_plain,)),
        render,
    ]


def _plain(_logger: object, _method: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Take out of texts what a terminal would obey; a line feed in a field is shown as Python writes it."""
    return {name: plain_lines(value) if isinstance(value, str) else value for name, value in fields.items()}


def follow(settings: Settings) -> None:
    """Show what the standard library writes in this process like our own lines: records of logging, what runs print,
    and what they write to standard error.

    Call it when the application is loaded: what that has configured stays as it is.
    """
    rendering = _rendering(settings)

    def line(to: Callable[[], TextIO], fields: dict[str, Any]) -> None:
        shown: Any = {"level": "info", **fields}
        for processor in rendering:
            shown = processor(None, shown["level"] if isinstance(shown, dict) else "", shown)
        to().write(f"{shown}\n")
        to().flush()

    tag_records()
    show_records(partial(line, lambda: sys.stderr), getattr(logging, settings.log_level.upper()))
    for name, stream in (("print", "stdout"), ("stderr", "stderr")):
        real = getattr(sys, stream)
        if not isinstance(real, Printed):
            setattr(sys, stream, Printed(name, real, partial(line, lambda real=real: real)))


def hide(functions: Iterable[Function]) -> None:
    """Take out of lines, too, what the types of these functions' events name with `redact=`: they are loaded now."""
    HIDDEN.fields(path for function in functions for path in function.redacted)


def _authors_line(stack: str) -> str:
    """Return the innermost place of a traceback that is the author's own: file:line."""
    places = re.findall(r'File "([^"]+)", line (\d+)', stack)
    libraries = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), "<")
    own = [place for place in places if not place[0].startswith(libraries)]
    if not places:
        return ""
    file, number = (own or places)[-1]
    here = Path(file)
    return f"{here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here}:{number}"


def listen(signals: Signals, *, debug: bool = False) -> None:
    """Write a line for failures, retries and notices; with `debug` also for every run that suspends or ends."""
    log = structlog.get_logger("worker").bind(**{OURS: True})

    def attempt_failed(signal: AttemptFailed) -> None:
        more = {"at": _authors_line(signal.stack), "exception": signal.stack.rstrip()} if signal.stack else {}
        write, again = log.error, None
        if signal.delay_ms is not None:
            write, again = log.warning, in_words(signal.delay_ms)
        write(
            "attempt failed",
            function=signal.function,
            run=signal.run,
            step=signal.step or None,
            attempt=signal.attempt + 1,
            error=signal.error,
            again_in=again,
            trace=shown_trace(signal.run, signal.trace),
            **more,
        )

    def run_ended(signal: RunEnded) -> None:
        if signal.status != "failed" and not debug:
            return
        write = log.error if signal.status == "failed" else log.debug
        write(
            "run ended",
            function=signal.function,
            run=signal.run,
            status=signal.status,
            error=signal.error or None,
            trace=shown_trace(signal.run, signal.trace),
        )

    def run_suspended(signal: RunSuspended) -> None:
        log.debug("run waits", function=signal.function, run=signal.run, due_in=in_words(signal.due_in_ms))

    def noticed(signal: Noticed) -> None:
        log.warning(signal.event, **signal.fields)

    signals.attempt_failed.listen(attempt_failed)
    signals.noticed.listen(noticed)
    signals.run_ended.listen(run_ended)
    if debug:
        signals.run_suspended.listen(run_suspended)


def some_of(names: Sequence[str]) -> list[str]:
    """Return the first ten of many names, and how many more there are: a line of a log is for a person."""
    more = len(names) - _MOST_NAMED
    return [*names[:_MOST_NAMED], f"{more} more"] if more > 0 else [*names]


def notice(event: str, **fields: object) -> None:
    """Tell of something in a process that only publishes: by its own logging, as logger `stepstream`."""
    told = ", ".join(f"{name}: {value}" for name, value in fields.items() if value)
    logging.getLogger("stepstream").warning("%s (%s)" if told else "%s%s", event, told)
