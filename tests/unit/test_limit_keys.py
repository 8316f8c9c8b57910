"""What a function's limits say of an event: keys that no two values share, and which rules look at what."""

import math
from typing import Any

import pytest

from stepstream import Batch, Bus, Concurrency, Debounce, RateLimit, Singleton, Throttle
from stepstream.bus.limits.flow import MOST_PRIORITY_S
from stepstream.bus.values.ids import run_id
from stepstream.checkpoint.limits.admit import Applicant
from stepstream.consumers.limits.limit_keys import apply

QUEUED = 1_700_000_000_000
CAUSE = "a|1-0"


def applied(data: dict[str, Any], source: str = "event", **limits: Any) -> Applicant:
    app = Bus("t")

    @app.function("f", on="a", **limits)
    async def f(ctx: Any, step: Any) -> None:
        return None

    applicant = Applicant("run", b"{}", source, QUEUED)
    apply(f, applicant, {"id": "e", "name": "a", "data": data}, CAUSE)
    return applicant


VALUES: list[Any] = [
    "1", 1, 1.5, True, "true", None, "null", "", "=1", "a:b", "a/b", "a b", "é", "%20", " ", "\n", [], [1], ["1"], {}, {"a": 1},
    "x" * 300, "x" * 301, ["x" * 300],
]  # fmt: skip


def test_each_value_has_a_key_of_its_own_in_one_line() -> None:
    keys = [applied({"k": value}, concurrency=Concurrency(1, key="event.data.k")).holds for value in VALUES]
    assert len(set(keys)) == len(VALUES)
    assert all(key.startswith("c0:") and "\n" not in key and len(key) <= 203 for key in keys)


def test_the_order_of_fields_makes_no_other_key() -> None:
    limit = Concurrency(1, key="event.data.k")
    assert (
        applied({"k": {"a": 1, "b": 2}}, concurrency=limit).holds
        == applied({"k": {"b": 2, "a": 1}}, concurrency=limit).holds
    )


def test_a_missing_field_counts_as_null() -> None:
    limit = Concurrency(1, key="event.data.k")
    assert applied({}, concurrency=limit).holds == applied({"k": None}, concurrency=limit).holds == "c0:=null"


def test_a_run_holds_a_place_of_each_limit() -> None:
    found = applied(
        {"u": "ann"}, concurrency=[Concurrency(2), Concurrency(1, key="event.data.u")], throttle=Throttle(1, "1m")
    )
    assert found.holds.split("\n") == ["c0:", "c1:ann", "t:"]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (60, 60), (-60, -60), (1.9, 1), (10**9, MOST_PRIORITY_S), (-(10**9), -MOST_PRIORITY_S),
        ("60", 0), (True, 0), (None, 0), ([], 0), (math.inf, MOST_PRIORITY_S), (math.nan, 0),
    ],
)  # fmt: skip
def test_priority_is_a_number_of_seconds_within_bounds(value: Any, seconds: int) -> None:
    assert applied({"p": value}, priority="event.data.p", concurrency=1).rank == QUEUED - 1_000 * seconds


@pytest.mark.parametrize(("key", "limited"), [(False, False), (True, True), (None, True), ("", True), (0, True)])
def test_only_a_key_that_is_false_is_not_limited(key: Any, limited: bool) -> None:
    rate = applied({"k": key}, rate_limit=RateLimit(1, "1m", key="event.data.k"))
    single = applied({"k": key}, singleton=Singleton("skip", key="event.data.k"))
    assert (rate.rate != "", single.single != "") == (limited, limited)


@pytest.mark.parametrize(("source", "held"), [("event", True), ("cron", False), ("invoke", False), ("rerun", False)])
def test_only_events_are_held_back(source: str, held: bool) -> None:
    debounced = applied({}, source, debounce=Debounce("1m"))
    batched = applied({}, source, batch=Batch(3, "1m"))
    assert (debounced.buffer, batched.buffer) == (("d:", "b:") if held else ("", ""))
    if held:
        assert debounced.buffer_run == run_id("t-f", "debounce", CAUSE, QUEUED)
        assert batched.buffer_run == run_id("t-f", "batch", CAUSE, QUEUED)


@pytest.mark.parametrize(("flag", "held"), [(True, True), (False, False), (None, False), (1, False), ("yes", False)])
def test_a_batch_takes_events_of_which_its_condition_is_true_and_nothing_else(flag: Any, held: bool) -> None:
    assert bool(applied({"b": flag}, batch=Batch(3, "1m", if_="event.data.b")).buffer) is held


@pytest.mark.parametrize("source", ["rerun", "batch", "debounce"])
def test_what_has_passed_the_rules_once_passes_them(source: str) -> None:
    found = applied({}, source, rate_limit=RateLimit(1, "1m"), concurrency=1)
    assert (found.rate, found.buffer, found.holds) == ("", "", "c0:")
    assert applied({}, source, singleton=Singleton("skip")).single == ("s:" if source == "debounce" else "")
