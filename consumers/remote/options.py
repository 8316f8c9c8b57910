"""Options of a function as SDKs register them, and what the bus has for each; docs/inngest-sdk.md has the table.

A duration, a limit, an expression that makes no sense is refused where the bus checks its own (bus/limits).
"""

import re
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from stepstream.bus.cron import Cron
from stepstream.bus.errors import ConfigError
from stepstream.bus.limits.cancel_on import PATH, CancelOn
from stepstream.bus.limits.rules import Batch, Concurrency, Debounce, RateLimit, Singleton, Throttle
from stepstream.bus.limits.timeouts import Timeouts
from stepstream.bus.retry import MAX_RETRIES, Retry
from stepstream.bus.trigger import Declared, On
from stepstream.bus.values.dialect import as_written, of_sdk
from stepstream.consumers.remote.system import stored_condition, stored_event_name

_LONGEST = "366d"
_RETRIES = 4
"""What an SDK means that says nothing."""
_ZONE = re.compile(r"(?:CRON_)?TZ=(\S+)\s+(.*)", re.DOTALL)
_SAME = re.compile(r"(event|async)\.([\w.]+)\s*==\s*(event|async)\.([\w.]+)")
_TINY = re.compile(r"\d+(?:\.\d+)?(?:ns|us|µs)")


class _Trigger(msgspec.Struct, rename="camel"):
    event: str | None = None
    expression: str | None = None
    cron: str | None = None
    jitter: str | None = None
    catch_up: bool = False
    """Of a Python application, as are the other fields that SDKs do not send."""
    from_start: bool = False


class _Runtime(msgspec.Struct):
    type: str = "http"
    url: str = ""


class _Retries(msgspec.Struct):
    attempts: int | None = None
    backoff: list[str] | None = None


class _Step(msgspec.Struct):
    runtime: _Runtime = msgspec.field(default_factory=_Runtime)
    retries: _Retries | None = None


class _Concurrency(msgspec.Struct):
    """One limit; or, with `fn` and `step`, those of whole runs and of what runs of them."""

    limit: int = 0
    key: str | None = None
    scope: Literal["fn", "env", "account", ""] | None = None
    shared: str | None = None
    fn: "list[_Concurrency] | None" = None
    step: "list[_Concurrency] | None" = None


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
    concurrency: int | list[_Concurrency] | _Concurrency | None = None
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
        "priority": condition_of(config.priority.run) if config.priority else None,
        "idempotency": condition_of(config.idempotency),
        "name": config.name or "",
    }


def triggers_of(config: Config) -> list[Declared] | None:
    """Return what starts it; ConfigError for what is refused."""
    crons: list[Declared] = []
    conditions: dict[str, list[str | None]] = {}
    for one in config.triggers or []:
        if one.cron:
            crons.append(_cron(one))
        elif not one.event:
            raise ConfigError("triggers: each has an event or a cron")
        elif one.event == "inngest/deferred.schedule":
            raise ConfigError("triggers: deferred functions are not there yet; send an event instead")
        elif one.event != "inngest/function.invoked":  # which any function may be
            name = stored_event_name(one.event)
            asked = one.expression if name == one.event else stored_condition(one.expression)
            conditions.setdefault(name, []).append(condition_of(asked))
    if any(len(several) > len(set(several)) for several in conditions.values()):
        raise ConfigError("triggers: one of them is there twice; remove one")
    since = {stored_event_name(one.event or ""): "start" for one in config.triggers or [] if one.from_start}
    events: list[Declared] = [
        On(name, if_=_either(several), from_="start" if name in since else "now")
        for name, several in conditions.items()
    ]
    return [*events, *crons] or None


def _either(conditions: list[str | None]) -> str | None:
    """Return the condition that is true where one of several is; none, where one of them has no condition."""
    if None in conditions or len(conditions) == 1:
        return None if None in conditions else conditions[0]
    return of_sdk(" || ".join(f"({as_written(one or '')})" for one in conditions))


def _cron(trigger: _Trigger) -> Cron:
    zone = _ZONE.fullmatch((trigger.cron or "").strip())
    fields, tz = (zone[2], zone[1]) if zone else (trigger.cron or "", "UTC")
    return Cron(
        " ".join(fields.replace("?", "*").split()), tz=tz, catch_up=trigger.catch_up, jitter=_maybe(trigger.jitter) or 0
    )


def _retries(config: Config) -> Retry:
    step = (config.steps or {}).get("step")
    asked = step.retries.attempts if step and step.retries else None
    if asked is None:
        asked = config.retries.attempts if isinstance(config.retries, _Retries) else config.retries
    count = _RETRIES if asked is None else asked
    if count < 0:
        raise ConfigError(f"retries: must be from 0 to {MAX_RETRIES}, got {count}")
    return Retry(min(count, MAX_RETRIES), step.retries.backoff if step and step.retries else None)


def _concurrency(config: Config) -> list[Concurrency] | None:
    given = config.concurrency
    if isinstance(given, _Concurrency) and not given.limit:
        if given.fn:
            raise ConfigError(
                "concurrency.fn: a limit on whole runs is not there; concurrency limits what runs, and a run that "
                "sleeps or waits holds no place: use singleton for one run at a time"
            )
        given = given.step
    alone = _Concurrency(given) if isinstance(given, int) else given
    several = [alone] if isinstance(alone, _Concurrency) else alone or []
    found: list[Concurrency] = []
    for one in several:
        if one.limit < 0:
            raise ConfigError(f"concurrency.limit: must be at least 1, got {one.limit}")
        if one.limit == 0:  # no limit
            continue
        scope, key = one.scope or "fn", condition_of(one.key)
        if scope != "fn" and key is None:
            raise ConfigError(f"concurrency: scope {scope!r} needs a key, whose values share the limit")
        # Where the scope is wider than a function, whoever has the same value of whatever key shares the limit.
        found.append(Concurrency(one.limit, key=key, shared=one.shared if scope == "fn" else f"inngest/{scope}"))
    return found or None


def _throttle(config: Config) -> Throttle | None:
    one = config.throttle
    return one and Throttle(one.limit, _duration(one.period), burst=one.burst or 0, key=condition_of(one.key))


def _rate_limit(config: Config) -> RateLimit | None:
    one = config.rate_limit
    return one and RateLimit(one.limit, _duration(one.period), key=condition_of(one.key))


def _debounce(config: Config) -> Debounce | None:
    one = config.debounce
    if one is None:
        return None
    return Debounce(_duration(one.period), timeout=_maybe(one.timeout), key=condition_of(one.key))


def _batch(config: Config) -> Batch | None:
    one = config.batch_events
    return one and Batch(one.max_size, _duration(one.timeout), key=condition_of(one.key), if_=condition_of(one.if_))


def _singleton(config: Config) -> Singleton | None:
    one = config.singleton
    return one and Singleton(one.mode, key=condition_of(one.key))


def _timeouts(config: Config) -> Timeouts | None:
    one = config.timeouts
    return one and Timeouts(start=_maybe(one.start), finish=_maybe(one.finish))


def _cancel(one: _Cancel) -> CancelOn:
    name, same = stored_event_name(one.event), match_of(one.if_ or "")
    if one.timeout and one.timeout[:4].isdecimal() and "-" in one.timeout:
        raise ConfigError(f"cancel, timeout {one.timeout!r}: must be a duration, counted from the run's event: '1h'")
    return CancelOn(
        name, match=same, if_=None if same else condition_of(one.if_), timeout=_maybe(one.timeout) or _LONGEST
    )


def condition_of(text: str | None) -> str | None:
    """Return an SDK's expression, marked to be evaluated as its own server does; None for an empty one."""
    return of_sdk(text) if text and text.strip() else None


def match_of(text: str) -> str | None:
    """Return the path at which two events must have the same, if that is all that an expression asks for."""
    found = _SAME.fullmatch(text.strip())
    is_same = found is not None and found[2] == found[4] and found[1] != found[3] and PATH.fullmatch(found[2])
    return found[2] if found is not None and is_same else None


def _maybe(duration: str | None) -> str | None:
    return _duration(duration) if duration else None


def _duration(text: str) -> str:
    """Return an SDK's duration as the bus writes it: what is below a millisecond is left out."""
    return _TINY.sub("", text) or "0s"


def check_step(config: Config, *, connected: bool) -> None:
    """Refuse a function that does not say where it is called; of a `connected` application there is nothing to say."""
    step = (config.steps or {}).get("step")
    if step is None:
        raise ConfigError("steps: there must be a step 'step', which says where the function is called")
    if connected:
        return
    if step.runtime.type not in {"http", ""}:
        raise ConfigError(f"steps.step.runtime.type: must be http, got {step.runtime.type!r}")
    parts = urlsplit(step.runtime.url)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise ConfigError(f"steps.step.runtime.url: must be an http or https URL, got {step.runtime.url!r}")
