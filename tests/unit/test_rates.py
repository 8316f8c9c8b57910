"""Rates: how often one address, or one event key, may ask."""

import pytest

from stepstream.bus.errors import ConfigError
from stepstream.bus.settings import read
from stepstream.bus.trust.rates import MOST_CALLERS, Rate, Rates, TooMany, rates


class Clock:
    def __init__(self) -> None:
        self.s = 1_000.0

    def now(self) -> float:
        return self.s


def taken(counted: Rates, caller: str, times: int, kind: str = "address") -> int:
    """Return how many of so many requests were let through."""
    through = 0
    for _ in range(times):
        try:
            counted.take(kind, caller)
        except TooMany:
            continue
        through += 1
    return through


@pytest.mark.parametrize("count", [1, 3, 7, 100, 1_000])
@pytest.mark.parametrize("per_ms", [1_000, 60_000, 86_400_000])
def test_so_many_may_come_at_once_and_then_one_after_the_other(count: int, per_ms: int) -> None:
    clock = Clock()
    counted = Rates({"address": Rate(count, per_ms)}, clock.now)
    assert taken(counted, "10.0.0.1", count + 5) == count
    assert taken(counted, "10.0.0.2", 1) == 1, "others are not held up"
    clock.s += per_ms / 1_000 / count
    assert taken(counted, "10.0.0.1", 5) == 1, "what was refused has not counted"
    clock.s += per_ms / 1_000
    assert taken(counted, "10.0.0.1", count + 5) == count


def test_who_waits_as_long_as_they_are_told_is_let_through() -> None:
    clock = Clock()
    for count, per_ms in ((1, 1_000), (3, 10_000), (7, 60_000), (1, 86_400_000)):
        counted = Rates({"key": Rate(count, per_ms)}, clock.now)
        taken(counted, "k", count, "key")
        with pytest.raises(TooMany, match=rf"at most {count} within") as refused:
            counted.take("key", "k")
        assert refused.value.status == 429
        assert "'k'" not in str(refused.value)
        clock.s += refused.value.after_s
        counted.take("key", "k")


def test_all_addresses_of_one_customer_are_one_and_a_mapped_one_is_what_it_maps() -> None:
    def counted() -> Rates:
        return Rates({"address": Rate(1, 60_000)}, Clock().now)

    for one, other, is_same in (
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True), ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("10.0.0.1", "::ffff:10.0.0.1", True), ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False), ("", "", True),
        ("10.0.0.1", "10.0.0.2", False), ("testclient", "10.0.0.1", False),
    ):  # fmt: skip
        both = counted()
        assert taken(both, one, 1) == 1
        assert taken(both, other, 1) == (0 if is_same else 1), (one, other)


def test_any_number_of_callers_takes_bounded_memory_and_those_that_ask_are_not_forgotten() -> None:
    counted = Rates({"address": Rate(2, 86_400_000)}, Clock().now)
    assert taken(counted, "busy", 3) == 2
    for n in range(MOST_CALLERS - 1):
        counted.take("address", f"other {n}")
    assert taken(counted, "busy", 1) == 0
    for n in range(3 * MOST_CALLERS):
        counted.take("address", f"more {n}")
    assert sum(map(len, counted._free.values())) == MOST_CALLERS


def test_without_a_rate_nothing_is_counted() -> None:
    counted = Rates(rates((), "BUS_RATE_LIMIT"))
    assert taken(counted, "10.0.0.1", 1_000) == 1_000


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("100/1s", "is no rate; write address=100/1s"),
        ("ip=100/1s", "is no rate"),
        ("address=100", "is no rate"),
        ("address=-1/1s", "is no rate"),
        ("address=\u0661\u0660/1s", "is no rate"),
        ("address=1e3/1s", "is no rate"),
        ("address=99999999/1s", "is no rate"),
        ("address=0/1s", "must be 1 to 1000000 requests within 1s to 1d"),
        ("address=1/1ms", "must be 1 to 1000000"),
        ("address=1/2d", "must be 1 to 1000000"),
        ("address=1/soon", "the period of address 'soon' is not a duration"),
        ("key=1/1s,key=2/1s", "key is there twice"),
    ],
)
def test_a_rate_that_is_none_is_refused_with_its_name_and_the_way_out(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match="BUS_RATE_LIMIT") as refused:
        read({"BUS_RATE_LIMIT": text})
    assert told in str(refused.value)


def test_rates_are_read_and_shown_as_they_are_written() -> None:
    found, _ = read({"BUS_RATE_LIMIT": "address=100/1s, key=5000/1m"})
    assert rates(found.rate_limit, "") == {"address": Rate(100, 1_000), "key": Rate(5_000, 60_000)}
    assert ("BUS_RATE_LIMIT", "address=100/1s, key=5000/1m") in found.shown()
