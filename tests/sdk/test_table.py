"""The table of what the protocol has: each SDK must use all of it that it has, and a test must be about each option."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.sdk import test_options, test_steps
from tests.sdk.stack import Stack

pytestmark = pytest.mark.sdk

ALL, TYPESCRIPT, V4 = ("v", "py"), ("v",), ("v4",)
OPERATIONS = {
    "StepRun": ALL,
    "StepRun step.sendEvent": TYPESCRIPT,
    "StepRun step.sendSignal": TYPESCRIPT,
    "StepRun step.ai.wrap": TYPESCRIPT,
    "StepRun group.experiment": V4,
    "StepError": ALL,
    "StepFailed": ALL,
    "StepPlanned": ALL,
    "Sleep": ALL,
    "WaitForEvent": ALL,
    "WaitForSignal": TYPESCRIPT,
    "InvokeFunction": ALL,
    "Gateway": TYPESCRIPT,
    "AIGateway step.ai.infer": ALL,
    "RunComplete": V4,
}
"""Each operation that SDKs tell of, with the beginnings of the names of those that do.

`Step` is of SDKs before these, DiscoveryRequest and SyncRunComplete are of durable endpoints, DeferAdd and DeferAbort of
deferred functions, which are refused.
"""
OPTIONS = {
    "triggers.event": ALL,
    "triggers.expression": ALL,
    "triggers.cron": ALL,
    "triggers.jitter": ("v4", "py"),
    "retries": ALL,
    "concurrency.limit": ALL,
    "concurrency.key": ALL,
    "concurrency.scope=fn": ALL,
    "concurrency.scope=env": ALL,
    "concurrency.scope=account": ALL,
    "throttle.limit": ALL,
    "throttle.period": ALL,
    "throttle.burst": ALL,
    "throttle.key": ALL,
    "rateLimit.limit": ALL,
    "rateLimit.period": ALL,
    "rateLimit.key": ALL,
    "debounce.period": ALL,
    "debounce.key": ALL,
    "debounce.timeout": ALL,
    "priority.run": ALL,
    "cancel.event": ALL,
    "cancel.if": ALL,
    "cancel.timeout": ALL,
    "timeouts.start": ALL,
    "timeouts.finish": ALL,
    "singleton.key": ALL,
    "singleton.mode=skip": ALL,
    "singleton.mode=cancel": ALL,
    "batchEvents.maxSize": ALL,
    "batchEvents.timeout": ALL,
    "batchEvents.key": ALL,
    "batchEvents.if": ALL,
    "idempotency": ALL,
    "onFailure": ALL,
}
"""Each option of a function, as SDKs register it."""


def _of(table: dict[str, tuple[str, ...]], stack: Stack) -> set[str]:
    return {one for one, sdks in table.items() if stack.sdk.startswith(sdks)}


def _registered(config: dict[str, Any]) -> Iterator[str]:
    """Yield the options that a function was registered with."""
    if config["id"].endswith("-failure"):
        yield "onFailure"
        return
    for name, given in config.items():
        if name in {"id", "name"} or given in (None, [], {}):
            continue
        if name == "steps":
            if given["step"].get("retries"):
                yield "retries"
        elif name == "idempotency":
            yield name
        elif isinstance(given, int):
            yield f"{name}.limit"
        else:
            for one in given if isinstance(given, list) else [given]:
                for field, value in one.items():
                    if value is not None:
                        yield f"{name}.{field}={value}" if field in {"scope", "mode"} else f"{name}.{field}"


def _tested(stack: Stack) -> set[str]:
    """Return the options that tests say they are about."""
    found = set[str]()
    for module in (test_options, test_steps):
        for test in vars(module).values():
            marks = {mark.name: mark.args for mark in getattr(test, "pytestmark", [])}
            if stack.sdk.startswith(marks.get("sdks", ("",))):
                found |= set(marks.get("about", ()))
    return found


def test_each_option_is_registered_and_has_a_test(stack: Stack) -> None:
    registered = {one for config in stack.configs() for one in _registered(config)}
    assert registered == _of(OPTIONS, stack)
    assert _tested(stack) >= _of(OPTIONS, stack), "mark a test about it: @pytest.mark.about"


@pytest.mark.both
def test_each_operation_is_told_of_and_its_run_ends(stack: Stack, provider: str) -> None:
    wanted = {"n": "each"}
    plain = ["steps", "caught", "later", "parallel", "race", "wait-timeout", "invoke", "infer"]
    typescript = [] if stack.is_python else ["fetch", "wrap", "signal", "signaller"]
    newest = ["hand-over", "experiment"] if stack.saves else []
    several = [*plain, *typescript, *newest]
    data: dict[str, dict[str, Any]] = {
        "infer": {"url": f"{provider}/v1"}, "fetch": {"url": f"{provider}/echo"},
        "signal": {"signal": "each", "timeout": "300ms"}, "signaller": {"signal": "nobody waits"},
    }  # fmt: skip
    soon = round(time.time() * 1_000) + 300
    stack.send_all(
        *({"name": f"t/{one}", "data": wanted | data.get(one, {})} for one in several),
        {"name": "t/sleep", "data": wanted | {"until": soon}}, {"name": "t/send", "data": wanted | {"of": "each"}},
        {"name": "t/backoff", "data": wanted},
    )  # fmt: skip
    runs = [stack.ended(one, wanted)[0] for one in (*several, "sleep", "send")]
    is_refused = {"infer", "fetch"} if stack.has_keys else set[str]()
    ended = {run["function"].removeprefix("matrix-") for run in runs if run["status"] == "completed"}
    assert ended == {*several, "sleep", "send"} - is_refused
    failed = stack.status("backoff", wanted, "waiting")
    assert stack.http.delete(f"/v1/runs/{failed['id']}").status_code < 300
    stack.status("backoff", wanted, "cancelled")
    mine = {run["id"] for run in (*runs, failed)}
    assert stack.told(mine) == _of(OPERATIONS, stack)
