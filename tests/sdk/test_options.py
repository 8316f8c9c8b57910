"""What applications of the official SDKs say of their functions: each option, by real processes."""

import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from stepstream.bus.values.durations import milliseconds
from tests.sdk.stack import Stack, until

pytestmark = pytest.mark.sdk


def _spans(stack: Stack, function: str, k: str) -> list[tuple[str, float, float]]:
    """Return what ran with a key: its name, when it began, and when it ended, ms."""
    lines = [line for line in stack.lines(fn=function) if line["data"].get("k") == k]
    ends = {line["run"]: line["at"] for line in lines if line["step"] == "end"}
    return sorted(
        ((line["data"].get("n", ""), line["at"], ends[line["run"]]) for line in lines if line["step"] == "begin"),
        key=lambda one: one[1],
    )


def _hold(stack: Stack) -> Path:
    """Return a file that a function waits for to be gone."""
    made = stack.folder / "hold"
    made.touch()
    return made


def _apart(spans: list[tuple[str, float, float]]) -> bool:
    return all(one[2] <= other[1] for one, other in pairwise(spans))


@pytest.mark.about("concurrency.limit", "concurrency.key")
def test_concurrency_by_a_key(stack: Stack) -> None:
    stack.send_all(*({"name": "t/concurrency", "data": {"k": k, "meet": "both keys"}} for k in ("a", "a", "b")))
    stack.ended("concurrency", {"k": "b"})
    stack.ended("concurrency", {"k": "a"}, 2)
    spans = _spans(stack, "concurrency", "a")
    assert len(spans) == 2
    assert _apart(spans)
    first, other = spans[0], _spans(stack, "concurrency", "b")[0]
    assert not _apart(sorted([first, other], key=lambda one: one[1])), "another key does not wait"


@pytest.mark.about("concurrency.scope=env")
def test_concurrency_of_two_functions_by_one_key(stack: Stack) -> None:
    stack.send_all(*({"name": f"t/env-{one}", "data": {"k": "env", "ms": 200}} for one in "aabb"))
    stack.ended("env-a", {}, 2)
    stack.ended("env-b", {}, 2)
    spans = _spans(stack, "env", "env")
    assert len(spans) == 4
    assert _apart(spans)


@pytest.mark.about("concurrency.scope=account", "concurrency.scope=fn")
def test_two_limits_at_once(stack: Stack) -> None:
    stack.send_all(*({"name": "t/account", "data": {"k": "x", "ms": 100, "n": n}} for n in range(3)))
    stack.ended("account", {"k": "x"}, 3)
    spans = _spans(stack, "account", "x")
    assert len(spans) == 3
    assert _apart(spans), "the narrower one counts"


@pytest.mark.about("throttle.limit", "throttle.period", "throttle.burst", "throttle.key")
def test_throttle_delays_what_is_too_much(stack: Stack) -> None:
    sent = time.time() * 1_000
    stack.send_all(*({"name": "t/throttle", "data": {"n": n, "k": "t"}} for n in range(4)))
    stack.send("t/throttle", {"k": "other"})
    began = sorted(run["started"] for run in stack.ended("throttle", {"k": "t"}, 4))
    other = stack.ended("throttle", {"k": "other"})[0]
    assert began[3] >= sent + 1_900, "two at once, one of them as a burst, and then one a second"
    assert other["started"] < began[3], "another key does not wait"


@pytest.mark.about("rateLimit.limit", "rateLimit.period", "rateLimit.key")
def test_rate_limit_drops_what_is_too_much(stack: Stack) -> None:
    stack.send_all(*({"name": "t/rate", "data": {"k": k}} for k in ("a", "a", "a", "b")))
    assert stack.output("rate", {"k": "b"}) == {"k": "b"}
    runs = stack.ended("rate", {"k": "a"}, 3)
    assert [run["status"] for run in runs].count("completed") == 1
    assert len(stack.lines(fn="rate", step="begin")) == 2


@pytest.mark.about("debounce.period", "debounce.key")
def test_debounce_runs_the_last(stack: Stack) -> None:
    stack.send_all(*({"name": "t/debounce", "data": {"n": n, "k": k}} for n in range(3) for k in "ab"))

    def look() -> list[dict[str, Any]] | None:
        done = [run["output"] for run in stack.runs("debounce") if run["status"] == "completed"]
        return done if len(done) >= 2 else None

    done = until(look, "both keys have run")
    assert sorted((one["k"], one["n"]) for one in done) == [("a", 2), ("b", 2)]


@pytest.mark.about("debounce.timeout")
def test_a_debounce_waits_no_longer_than_its_timeout(stack: Stack) -> None:
    """Events go on coming until it runs: they are closer to each other than its period, and the first is forgotten."""
    n = 0

    def look() -> list[dict[str, Any]]:
        nonlocal n
        n += 1
        stack.send("t/debounce", {"k": "storm", "n": n})
        return [run for run in stack.of("debounce", {"k": "storm"}) if run["status"] == "completed"]

    run = until(look, "it runs while events come")[0]
    assert run["output"]["n"] > 1


@pytest.mark.about("batchEvents.maxSize", "batchEvents.timeout", "batchEvents.key", "batchEvents.if")
def test_a_batch_by_its_size_and_by_its_time(stack: Stack) -> None:
    several = [("a", 1), ("a", 2), ("b", 3), ("a", 4), ("now", 5), ("a", 6)]
    stack.send_all(*({"name": "t/batch", "data": {"k": k, "n": n}} for k, n in several))

    def look() -> list[list[int]] | None:
        done = [run["output"] for run in stack.runs("batch") if run["status"] == "completed"]
        return sorted(done) if sum(map(len, done)) == 6 else None

    assert until(look, "all of them have run") == [[1, 2, 4], [3], [5], [6]]


@pytest.mark.about("priority.run")
def test_priority_decides_who_is_next(stack: Stack) -> None:
    hold = _hold(stack)
    stack.send("t/priority", {"n": "first", "p": 0, "k": "p", "hold": str(hold)})
    until(lambda: stack.lines(fn="priority", step="begin"), "the first runs")
    stack.send_all(*({"name": "t/priority", "data": {"n": str(p), "p": p, "k": "p"}} for p in (0, 100, 50)))
    until(lambda: len(stack.of("priority", {"k": "p"})) == 4, "the others wait behind it")
    hold.unlink()
    stack.ended("priority", {"k": "p"}, 4)
    assert [name for name, _, _ in _spans(stack, "priority", "p")] == ["first", "100", "50", "0"]


@pytest.mark.about("singleton.mode=skip", "singleton.key")
def test_a_singleton_skips(stack: Stack) -> None:
    stack.send("t/skip", {"k": "a", "n": 1})
    first = stack.status("skip", {"k": "a", "n": 1}, "waiting")
    stack.send("t/skip", {"k": "a", "n": 2})
    stack.send("t/skip", {"k": "b", "n": 3})
    other = stack.status("skip", {"k": "b"}, "waiting")
    stack.status("skip", {"k": "a", "n": 2}, "skipped")
    for run in (first, other):
        stack.http.delete(f"/v1/runs/{run['id']}")
    stack.ended("skip", {}, 3)


@pytest.mark.about("singleton.mode=cancel")
def test_a_singleton_cancels_the_one_before(stack: Stack) -> None:
    stack.send("t/replace", {"n": 1})
    stack.status("replace", {"n": 1}, "waiting")
    stack.send("t/replace", {"n": 2})
    stack.status("replace", {"n": 1}, "cancelled")
    run = stack.status("replace", {"n": 2}, "waiting")
    stack.http.delete(f"/v1/runs/{run['id']}")
    stack.status("replace", {"n": 2}, "cancelled")


@pytest.mark.about("idempotency")
def test_idempotency_by_a_key(stack: Stack) -> None:
    stack.send_all(*({"name": "t/once", "data": {"k": k}} for k in ("a", "a", "b")))
    stack.ended("once", {"k": "a"})
    stack.ended("once", {"k": "b"})
    assert len(stack.lines(fn="once", step="begin")) == 2


def test_an_event_that_is_sent_twice_runs_once(stack: Stack) -> None:
    for _ in range(2):
        stack.send("t/if", {"ok": True, "n": "twice"}, id="twice")
    stack.send("t/if", {"ok": True, "n": "marker"})
    stack.output("if", {"n": "marker"})
    assert len(stack.of("if", {"n": "twice"})) == 1


@pytest.mark.about("timeouts.start", "timeouts.finish")
def test_timeouts_of_the_start_and_of_the_whole(stack: Stack) -> None:
    hold = _hold(stack)
    stack.send("t/start-by", {"n": 1, "k": "s", "hold": str(hold)})
    until(lambda: stack.lines(fn="start-by", step="begin"), "the first runs")
    stack.send("t/start-by", {"n": 2, "k": "s"})
    stack.send("t/finish-by", {"n": 1})
    second = until(lambda: stack.of("start-by", {"n": 2}), "the second waits behind it")[0]
    until(lambda: time.time() * 1_000 > second["queued"] + 3_100, "it is too late for the second")
    hold.unlink()
    stack.status("start-by", {"n": 2}, "cancelled")
    stack.status("finish-by", {"n": 1}, "cancelled")
    assert stack.output("start-by", {"n": 1})["n"] == 1


@pytest.mark.about("cancel.event", "cancel.if")
def test_an_event_cancels(stack: Stack) -> None:
    stack.send_all(*({"name": "t/cancel-on", "data": {"id": one}} for one in (1, 2)))
    for one in (1, 2):
        stack.status("cancel-on", {"id": one}, "waiting")
    stack.send("t/stop", {"id": 1})
    stack.status("cancel-on", {"id": 1}, "cancelled")
    other = stack.of("cancel-on", {"id": 2})[0]
    assert other["status"] == "waiting"
    stack.http.delete(f"/v1/runs/{other['id']}")
    stack.status("cancel-on", {"id": 2}, "cancelled")


@pytest.mark.sdks("v")
def test_an_event_cancels_what_has_the_same_at_a_path(stack: Stack) -> None:
    stack.send_all(*({"name": "t/cancel-match", "data": {"id": one}} for one in (1, 2)))
    for one in (1, 2):
        stack.status("cancel-match", {"id": one}, "waiting")
    for one in (1, 2):
        stack.send("t/match-stop", {"id": one})
        stack.status("cancel-match", {"id": one}, "cancelled")


@pytest.mark.about("cancel.timeout")
def test_an_event_cancels_no_more_after_a_while(stack: Stack) -> None:
    stack.send("t/cancel-soon", {"n": "old"})
    old = stack.status("cancel-soon", {"n": "old"}, "waiting")
    until(lambda: time.time() * 1_000 > old["queued"] + 1_100, "nothing cancels it any more")
    stack.send("t/cancel-soon", {"n": "new"})
    stack.status("cancel-soon", {"n": "new"}, "waiting")
    stack.send("t/soon")
    stack.status("cancel-soon", {"n": "new"}, "cancelled")
    assert stack.of("cancel-soon", {"n": "old"})[0]["status"] == "waiting"
    stack.http.delete(f"/v1/runs/{old['id']}")
    stack.status("cancel-soon", {"n": "old"}, "cancelled")


@pytest.mark.sdks("v4", "py")
@pytest.mark.about("triggers.jitter")
def test_a_schedule_has_its_jitter(stack: Stack) -> None:
    (schedule,) = stack.bus().functions["each-year"].crons
    assert milliseconds(schedule.jitter) == 60_000


@pytest.mark.about("triggers.event", "triggers.expression")
def test_wildcards_conditions_and_several_triggers(stack: Stack) -> None:
    stack.send_all(
        {"name": "t/wild/a", "data": {"n": 1}}, {"name": "t/if", "data": {"ok": False, "n": 5}},
        {"name": "t/if", "data": {"ok": True, "n": 6}}, {"name": "t/two.a", "data": {"n": 2}},
        {"name": "t/two.b", "data": {"n": 3}},
    )  # fmt: skip
    assert stack.output("wild", {"n": 1}) == "t/wild/a"
    assert stack.output("if", {"n": 6}) == {"ok": True, "n": 6}
    assert stack.of("if", {"n": 5}) == []
    assert (stack.output("two", {"n": 2}), stack.output("two", {"n": 3})) == ("t/two.a", "t/two.b")


def test_an_event_of_the_future_starts_then(stack: Stack) -> None:
    at = round(time.time() * 1_000) + 1_500
    stack.send("t/two.a", {"n": "later"}, ts=at)
    run = stack.ended("two", {"n": "later"})[0]
    assert run["started"] >= at


@pytest.mark.about("triggers.cron")
def test_a_schedule_has_its_function_called(stack: Stack) -> None:
    """The last of all: a minute has often begun by then."""
    done = until(lambda: [one for one in stack.runs("each-minute") if one["status"] == "completed"], "a tick", 120)
    event = done[0]["output"]
    assert (event["name"], event["data"]["cron"]) == ("inngest/scheduled.timer", "TZ=Europe/Paris * * * * *")
    assert datetime.fromisoformat(event["data"]["scheduledAt"]).second == 0
