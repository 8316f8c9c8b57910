"""What applications of the official SDKs say of their functions: each option, by real processes."""

import time
from datetime import datetime
from itertools import pairwise

import pytest

from tests.sdk.stack import Stack
from tests.support import until

pytestmark = pytest.mark.sdk


def _spans(stack: Stack, function: str, k: str) -> list[tuple[str, float, float]]:
    """Return what ran with a key: its name, when it began, and when it ended, ms."""
    lines = [line for line in stack.lines(fn=function) if line["data"].get("k") == k]
    ends = {line["run"]: line["at"] for line in lines if line["step"] == "end"}
    return sorted(
        ((line["data"].get("n", ""), line["at"], ends[line["run"]]) for line in lines if line["step"] == "begin"),
        key=lambda one: one[1],
    )


def _apart(spans: list[tuple[str, float, float]]) -> bool:
    return all(one[2] <= other[1] for one, other in pairwise(spans))


def test_concurrency_by_a_key(stack: Stack) -> None:
    stack.send_all(*({"name": "t/concurrency", "data": {"k": k, "ms": 300}} for k in ("a", "a", "b")))
    stack.ended("concurrency", {"k": "a"}, 2)
    stack.ended("concurrency", {"k": "b"})
    a, b = _spans(stack, "concurrency", "a"), _spans(stack, "concurrency", "b")
    assert len(a) == 2
    assert _apart(a)
    assert not _apart(sorted([*a, *b], key=lambda one: one[1])), "another key does not wait"


def test_concurrency_of_two_functions_by_one_key(stack: Stack) -> None:
    stack.send_all(*({"name": f"t/env-{one}", "data": {"k": "env", "ms": 200}} for one in "aabb"))
    stack.ended("env-a", {}, 2)
    stack.ended("env-b", {}, 2)
    spans = _spans(stack, "env", "env")
    assert len(spans) == 4
    assert _apart(spans)


def test_throttle_delays_what_is_too_much(stack: Stack) -> None:
    stack.send_all(*({"name": "t/throttle", "data": {"n": n, "k": "t"}} for n in range(3)))
    runs = stack.ended("throttle", {"k": "t"}, 3)
    began = sorted(run["started"] for run in runs)
    assert all(after - before >= 800 for before, after in pairwise(began)), began


def test_rate_limit_drops_what_is_too_much(stack: Stack) -> None:
    stack.send_all(*({"name": "t/rate", "data": {"k": k}} for k in ("a", "a", "a", "b")))
    assert stack.output("rate", {"k": "b"}) == {"k": "b"}
    runs = stack.ended("rate", {"k": "a"}, 3)
    assert [run["status"] for run in runs].count("completed") == 1
    assert len(stack.lines(fn="rate", step="begin")) == 2


def test_debounce_runs_the_last(stack: Stack) -> None:
    stack.send_all(*({"name": "t/debounce", "data": {"n": n}} for n in range(3)))
    done = until(lambda: [one for one in stack.runs("debounce") if one["status"] == "completed"], "it runs", 20)
    assert [run["output"]["n"] for run in done] == [2]


def test_a_batch_by_its_size_and_by_its_time(stack: Stack) -> None:
    stack.send_all(*({"name": "t/batch", "data": {"n": n}} for n in range(4)))

    def look() -> list[list[int]]:
        done = [run["output"] for run in stack.runs("batch") if run["status"] == "completed"]
        return sorted(done, key=len) if sum(map(len, done)) == 4 else []

    assert [len(one) for one in until(look, "all of them have run", 20)] == [1, 3]


def test_priority_decides_who_is_next(stack: Stack) -> None:
    stack.send("t/priority", {"n": "first", "p": 0, "k": "p", "ms": 600})
    until(lambda: stack.lines(fn="priority", step="begin"), "the first runs")
    stack.send_all(*({"name": "t/priority", "data": {"n": str(p), "p": p, "k": "p"}} for p in (0, 100, 50)))
    stack.ended("priority", {"k": "p"}, 4)
    assert [name for name, _, _ in _spans(stack, "priority", "p")] == ["first", "100", "50", "0"]


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


def test_a_singleton_cancels_the_one_before(stack: Stack) -> None:
    stack.send("t/replace", {"n": 1})
    stack.status("replace", {"n": 1}, "waiting")
    stack.send("t/replace", {"n": 2})
    stack.status("replace", {"n": 1}, "cancelled")
    run = stack.status("replace", {"n": 2}, "waiting")
    stack.http.delete(f"/v1/runs/{run['id']}")
    stack.status("replace", {"n": 2}, "cancelled")


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


def test_timeouts_of_the_start_and_of_the_whole(stack: Stack) -> None:
    stack.send("t/start-by", {"n": 1, "k": "s", "ms": 2_500})
    until(lambda: stack.lines(fn="start-by", step="begin"), "the first runs")
    stack.send("t/start-by", {"n": 2, "k": "s"})
    stack.send("t/finish-by", {"n": 1})
    stack.status("start-by", {"n": 2}, "cancelled")
    stack.status("finish-by", {"n": 1}, "cancelled")
    assert stack.output("start-by", {"n": 1})["n"] == 1


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


def test_a_schedule_has_its_function_called(stack: Stack) -> None:
    """The last of all: a minute has often begun by then."""
    done = until(lambda: [one for one in stack.runs("each-minute") if one["status"] == "completed"], "a tick", 65)
    event = done[0]["output"]
    assert (event["name"], event["data"]["cron"]) == ("inngest/scheduled.timer", "TZ=Europe/Paris * * * * *")
    assert datetime.fromisoformat(event["data"]["scheduledAt"]).second == 0
