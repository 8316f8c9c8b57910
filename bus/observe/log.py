"""Logs: set structlog up once per process, and turn signals into lines."""

import logging
import sys
from typing import Any

import structlog

from stepstream.bus.observe.signals import AttemptFailed, Noticed, RunEnded, RunSuspended, Signals
from stepstream.bus.settings import Settings
from stepstream.bus.values.durations import in_words


def configure(settings: Settings) -> None:
    """Set structlog up: JSON lines, or text on a terminal; on standard error, so that printed tables stay clean."""
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    render: Any = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.log_level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def listen(signals: Signals, *, debug: bool = False) -> None:
    """Write a line for failures, retries and notices; with `debug` also for every run that suspends or ends."""
    log = structlog.get_logger("worker")

    def attempt_failed(signal: AttemptFailed) -> None:
        log.warning(
            "attempt failed",
            function=signal.function,
            run=signal.run,
            step=signal.step or None,
            attempt=signal.attempt,
            error=signal.error,
            again_in=in_words(signal.delay_ms),
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


def notice(event: str, **fields: object) -> None:
    """Tell of something in a process that only publishes: by its own logging, as logger `stepstream`."""
    told = ", ".join(f"{name}: {value}" for name, value in fields.items() if value)
    logging.getLogger("stepstream").warning("%s (%s)" if told else "%s%s", event, told)
