"""Options of a function as SDKs register them, and what the bus has for each; docs/inngest-sdk.md has the table.

A duration, a limit, an expression that makes no sense is refused where the bus checks its own (bus/limits.py).
"""

import re
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from stepstream.bus.cron import Cron
from stepstream.bus.errors import ConfigError
from stepstream.bus.limits import (
    Batch,
    CancelOn,
    Concurrency,
    Debounce,
    RateLimit,
    Singleton,
    Throttle,
    Timeouts,
)
from stepstream.bus.retry import MAX_RETRIES, Retry
from stepstream.bus.trigger import Declared, On
from stepstream.consumers.remote.system import stored_name

_RETRIES = 4
"""What an SDK means that says nothing."""
_ZONE = re.compile(r"(?:CRON_)?TZ=(\S+)\s+(.*)", re.DOTALL)
_TINY = re.compile(r"\d+(?:\.\d+)?(?:ns|us|µs)")


class _Trigger(msgspec.Struct):
    event: str | None = None
    expression: str | None = None
    cron: str | None = None


class _Runtime(msgspec.Struct):
    type: str = "http"
    url: str = ""


class _Retries(msgspec.Struct):
    attempts: int | None = None


class _Step(msgspec.Struct):
    runtime: _Runtime = msgspec.field(default_factory=_Runtime)
    retries: _Retries | None = None


class _Concurrency(msgspec.Struct):
    limit: int = 0
    key: str | None = None
    scope: Literal["fn", "env", "account", ""] | None = None


class _ConcurrencyOf(msgspec.Struct):
    fn: list[_Concurrency] | None = None
    step: list[_Concurrency] | None = None


class _Throttle(msgspec.Struct):
    limit: int
    period: str
    burst: int | None = None
    key: str | None = None


class _RateLimit(msgspec.Struct):
    limit: int
    period: str
    key: str | None = None


class _Debounce(msgspec.Struct):
    period: str
    key: str | None = None
    timeout: str | None = None


class _Batch(msgspec.Struct, rename="camel"):
    max_size: int
    timeout: str
    key: str | None = None
    if_: str | None = msgspec.field(default=None, name="if")


class _Priority(msgspec.Struct):
    run: str | None = None


class _Singleton(msgspec.Struct):
    mode: Literal["skip", "cancel"]
    key: str | None = None


class _Timeouts(msgspec.Struct):
    start: str | None = None
    finish: str | None = None


class _Cancel(msgspec.Struct):
    event: str
    if_: str | None = msgspec.field(default=None, name="if")
    timeout: str | None = None


class Config(msgspec.Struct, rename="camel"):
    """A function as SDKs register it. What is missing, null and empty are one."""

    id: str
    name: str | None = None
    triggers: list[_Trigger] | None = None
    steps: dict[str, _Step] | None = None
    retries: _Retries | int | None = None
    concurrency: int | list[_Concurrency] | _ConcurrencyOf | None = None
    throttle: _Throttle | None = None
    rate_limit: _RateLimit | None = None
    debounce: _Debounce | None = None
    batch_events: _Batch | None = None
    priority: _Priority | None = None
    singleton: _Singleton | None = None
    idempotency: str | None = None
    cancel: list[_Cancel] | None = None
    timeouts: _Timeouts | None = None


def options_of(config: Config) -> dict[str, Any]:
    """Return what `Bus.function` takes, but for the id and the triggers; ConfigError for what is refused."""
    _check_step(config)
    return {
        "retries": _retries(config),
        "cancel_on": [_cancel(one) for one in config.cancel or []],
        "timeouts": _timeouts(config),
        "concurrency": _concurrency(config),
        "throttle": _throttle(config),
        "rate_limit": _rate_limit(config),
        "debounce": _debounce(config),
        "batch": _batch(config),
        "singleton": _singleton(config),
        "priority": _text(config.priority.run) if config.priority else None,
        "idempotency": _text(config.idempotency),
        "name": config.name or "",
    }


def triggers_of(config: Config) -> list[Declared] | None:
    """Return what starts it; ConfigError for what is refused."""
    found: list[Declared] = []
    for one in config.triggers or []:
        if one.cron:
            found.append(_cron(one.cron))
        elif one.event:
            found.append(On(stored_name(one.event), if_=_text(one.expression)))
        else:
            raise ConfigError("triggers: each has an event or a cron")
    return found or None


def _cron(text: str) -> Cron:
    zone = _ZONE.fullmatch(text.strip())
    fields, tz = (zone[2], zone[1]) if zone else (text, "UTC")
    return Cron(" ".join(fields.replace("?", "*").split()), tz=tz)


def _retries(config: Config) -> Retry:
    step = (config.steps or {}).get("step")
    asked = step.retries.attempts if step and step.retries else None
    if asked is None:
        asked = config.retries.attempts if isinstance(config.retries, _Retries) else config.retries
    count = _RETRIES if asked is None else asked
    if count < 0:
        raise ConfigError(f"retries: must be from 0 to {MAX_RETRIES}, got {count}")
    return Retry(min(count, MAX_RETRIES))


def _concurrency(config: Config) -> list[Concurrency] | None:
    given = config.concurrency
    if isinstance(given, _ConcurrencyOf):
        if given.fn:
            raise ConfigError(
                "concurrency.fn: a limit on whole runs is not there; concurrency limits what runs, and a run that "
                "sleeps or waits holds no place: use singleton for one run at a time"
            )
        given = given.step
    several = [_Concurrency(given)] if isinstance(given, int) else given or []
    found: list[Concurrency] = []
    for one in several:
        if one.limit < 0:
            raise ConfigError(f"concurrency.limit: must be at least 1, got {one.limit}")
        if one.limit == 0:  # no limit
            continue
        scope, key = one.scope or "fn", _text(one.key)
        if scope != "fn" and key is None:
            raise ConfigError(f"concurrency: scope {scope!r} needs a key, whose values share the limit")
        # Where the scope is wider than a function, whoever has the same value of whatever key shares the limit.
        found.append(Concurrency(one.limit, key=key, shared=None if scope == "fn" else f"inngest/{scope}"))
    return found or None


def _throttle(config: Config) -> Throttle | None:
    one = config.throttle
    return one and Throttle(one.limit, _duration(one.period), burst=one.burst or 0, key=_text(one.key))


def _rate_limit(config: Config) -> RateLimit | None:
    one = config.rate_limit
    return one and RateLimit(one.limit, _duration(one.period), key=_text(one.key))


def _debounce(config: Config) -> Debounce | None:
    one = config.debounce
    if one is None:
        return None
    return Debounce(_duration(one.period), timeout=_maybe(one.timeout), key=_text(one.key))


def _batch(config: Config) -> Batch | None:
    one = config.batch_events
    return one and Batch(one.max_size, _duration(one.timeout), key=_text(one.key), if_=_text(one.if_))


def _singleton(config: Config) -> Singleton | None:
    one = config.singleton
    return one and Singleton(one.mode, key=_text(one.key))


def _timeouts(config: Config) -> Timeouts | None:
    one = config.timeouts
    return one and Timeouts(start=_maybe(one.start), finish=_maybe(one.finish))


def _cancel(one: _Cancel) -> CancelOn:
    timeout = _maybe(one.timeout)
    name, if_ = stored_name(one.event), _text(one.if_)
    return CancelOn(name, if_=if_) if timeout is None else CancelOn(name, if_=if_, timeout=timeout)


def _text(value: str | None) -> str | None:
    return value or None


def _maybe(duration: str | None) -> str | None:
    return _duration(duration) if duration else None


def _duration(text: str) -> str:
    """Return a duration of theirs as ours: less than a millisecond is nothing."""
    return _TINY.sub("", text) or "0s"


def _check_step(config: Config) -> None:
    step = (config.steps or {}).get("step")
    if step is None:
        raise ConfigError("steps: there must be a step 'step', which says where the function is called")
    if step.runtime.type not in {"http", ""}:
        raise ConfigError(f"steps.step.runtime.type: must be http, got {step.runtime.type!r}")
    parts = urlsplit(step.runtime.url)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise ConfigError(f"steps.step.runtime.url: must be an http or https URL, got {step.runtime.url!r}")
