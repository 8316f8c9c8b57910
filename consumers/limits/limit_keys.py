"""Limit keys: what a function's limits make of one event: the keys it counts under and its rank in the backlog.

The verdicts are Redis's: runs_admit, runs_dispatch.
"""

from collections.abc import Mapping
from typing import Any

from stepstream.bus.function import Function
from stepstream.bus.limits.flow import MOST_PRIORITY_S, Flow
from stepstream.bus.limits.keys import stored_key
from stepstream.bus.values.expression import compiled
from stepstream.bus.values.ids import run_id
from stepstream.checkpoint.limits.admit import Applicant

_WHERE = "a limit"  # each was checked when its function was declared
_RULED = frozenset({"event", "cron", "invoke"})
"""What rate limit, debounce, batch and singleton look at; what is run again, or was in a buffer, has passed them."""


def apply(function: Function, applicant: Applicant, event: Mapping[str, Any], cause: str) -> None:
    """Fill in what the limits of a function say of an event (`cause` names it: `<event name>|<entry>`)."""
    flow = function.flow
    applicant.holds = "\n".join(_limit_keys(flow, event))
    applicant.rank = applicant.queued - 1_000 * _priority(flow, event)
    if applicant.source not in _RULED:
        applicant.single = _single(flow, event) if applicant.source == "debounce" else ""
        return
    if flow.batch is not None and applicant.source == "event":
        if flow.batch.if_ is None or compiled(flow.batch.if_, _WHERE).matches(event):
            _buffer(function, applicant, f"b:{_key(flow.batch.key, event)}", "batch", cause)
        return
    if flow.rate_limit is not None and _value(flow.rate_limit.key, event) is not False:
        applicant.rate = f"r:{_key(flow.rate_limit.key, event)}"
    if flow.debounce is not None and applicant.source == "event":
        _buffer(function, applicant, f"d:{_key(flow.debounce.key, event)}", "debounce", cause)
        return
    applicant.single = _single(flow, event)


def _buffer(function: Function, applicant: Applicant, key: str, source: str, cause: str) -> None:
    applicant.buffer = key
    applicant.buffer_run = run_id(function.slug, source, cause, applicant.queued)


def _limit_keys(flow: Flow, event: Mapping[str, Any]) -> list[str]:
    found = [f"c{n}:{_key(one.key, event)}" for n, one in enumerate(flow.concurrency)]
    return [*found, f"t:{_key(flow.throttle.key, event)}"] if flow.throttle is not None else found


def _single(flow: Flow, event: Mapping[str, Any]) -> str:
    if flow.singleton is None or _value(flow.singleton.key, event) is False:
        return ""
    return f"s:{_key(flow.singleton.key, event)}"


def _priority(flow: Flow, event: Mapping[str, Any]) -> int:
    value = _value(flow.priority, event) if flow.priority is not None else 0
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return 0
    return int(max(-MOST_PRIORITY_S, min(MOST_PRIORITY_S, value)))


def _value(key: str | None, event: Mapping[str, Any]) -> Any:
    return "" if key is None else compiled(key, _WHERE).value(event)


def _key(key: str | None, event: Mapping[str, Any]) -> str:
    return stored_key(_value(key, event))
