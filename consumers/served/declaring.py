"""Declaring: a Python function as an application behind HTTP registers it; consumers/remote/options.py reads it."""

from collections.abc import Iterable
from typing import Any

from stepstream.bus.cron import Cron
from stepstream.bus.function import Function
from stepstream.bus.limits.cancel_on import CancelOn
from stepstream.bus.limits.flow import Flow
from stepstream.bus.retry import Retry
from stepstream.bus.system_events import FAILED
from stepstream.bus.values.dialect import of_own
from stepstream.bus.values.durations import milliseconds
from stepstream.consumers.remote.functions import with_query
from stepstream.consumers.remote.protocol import NEXT
from stepstream.consumers.remote.system import sdk_event_name


def config_of(function: Function[Any, Any], url: str, of_failed: str = "") -> dict[str, Any]:
    """Return what is registered of a function that is called at a URL; `of_failed`: it handles the failures of that."""
    at = with_query(url, f"fnId={function.slug}&stepId={NEXT}")
    triggers: list[dict[str, Any]] = [
        _some(event=sdk_event_name(one.name), expression=_own(one.condition.text if one.condition else None),
              fromStart=one.from_start or None)
        for one in function.triggers
    ]  # fmt: skip
    triggers += map(_cron, function.crons)
    if of_failed:
        triggers.append(
            {"event": sdk_event_name(FAILED), "expression": of_own(f"event.data.function_id == '{of_failed}'")}
        )
    return _some(
        id=function.slug,
        name=function.name,
        triggers=triggers,
        steps={"step": {
            "id": "step", "name": "step", "runtime": {"type": "http", "url": at}, "retries": _retries(function.retry),
        }},
        cancel=[_cancel(one) for one in function.cancel_on],
        timeouts=_some(start=_ms(function.timeouts.start), finish=_ms(function.timeouts.finish)) or None,
        **_limits(function.flow),
    )  # fmt: skip


def configs_of(functions: Iterable[Function[Any, Any]], url: str) -> list[dict[str, Any]]:
    """Return what is registered of functions, and of what handles their failures."""
    every = list(functions)
    handlers = {one.failure.slug: one.slug for one in every if one.failure is not None}
    return [config_of(one, url, handlers.get(one.slug, "")) for one in every]


def _some(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _own(expression: str | None) -> str | None:
    return of_own(expression) if expression else None


def _ms(duration: Any) -> str | None:
    if duration is None or isinstance(duration, str):
        return duration
    return f"{milliseconds(duration, 'a duration')}ms"


def _cron(cron: Cron) -> dict[str, Any]:
    zone = f"TZ={cron.tz} " if cron.tz != "UTC" else ""
    jitter = _ms(cron.jitter) if cron.jitter else None
    return _some(cron=f"{zone}{cron.expression}", jitter=jitter, catchUp=cron.catch_up or None)


def _retries(retry: Retry) -> dict[str, Any]:
    waits = None if retry.backoff is None else [f"{retry.delay_ms(n)}ms" for n in range(max(1, retry.retries))]
    return _some(attempts=retry.retries, backoff=waits)


def _cancel(rule: CancelOn) -> dict[str, Any]:
    same = f"event.{rule.match} == async.{rule.match}" if rule.match else None
    return _some(**{"event": sdk_event_name(rule.name), "if": same or _own(rule.if_), "timeout": _ms(rule.timeout)})


def _limits(flow: Flow) -> dict[str, Any]:
    throttle, rate, debounce, batch = flow.throttle, flow.rate_limit, flow.debounce, flow.batch
    return {
        "concurrency": [_some(limit=one.limit, key=_own(one.key), shared=one.shared) for one in flow.concurrency],
        "throttle": throttle and _some(
            limit=throttle.limit, period=_ms(throttle.period), burst=throttle.burst, key=_own(throttle.key)
        ),
        "rateLimit": rate and _some(limit=rate.limit, period=_ms(rate.period), key=_own(rate.key)),
        "debounce": debounce and _some(
            period=_ms(debounce.period), timeout=_ms(debounce.timeout), key=_own(debounce.key)
        ),
        "batchEvents": batch and _some(
            **{"maxSize": batch.size, "timeout": _ms(batch.timeout), "key": _own(batch.key), "if": _own(batch.if_)}
        ),
        "singleton": flow.singleton and _some(mode=flow.singleton.mode, key=_own(flow.singleton.key)),
        "priority": {"run": of_own(flow.priority)} if flow.priority else None,
    }  # fmt: skip
