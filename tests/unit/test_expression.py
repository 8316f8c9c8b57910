"""Expressions and keys are exact: numbers, types, and what CEL cannot hold. No Redis."""

from typing import Any

import pytest
import structlog.testing

from stepstream.bus.errors import ConfigError
from stepstream.bus.event import EventData, RawEvent
from stepstream.bus.values import codec
from stepstream.bus.values.expression import Expression
from stepstream.bus.values.matching import answers

BEYOND = 2**53


def _of(expression: str, **data: Any) -> Any:
    return Expression(expression, "here").value({"data": data})


def _is(text: str, **data: Any) -> bool:
    return Expression(text, "here").matches({"data": data})


@pytest.mark.parametrize("number", [2**53 + 1, 2**63 + 1, 2**64 + 1, -(2**63) - 1, 10**300 + 1])
def test_a_path_has_its_whole_number_exactly(number: int) -> None:
    """CEL made a double of what is above 2^64, and two events shared an idempotency key."""
    assert _of("event.data.id", id=number) == number
    assert codec.canonical(_of("event.data.id", id=number)) != codec.canonical(_of("event.data.id", id=number + 1))


def test_whole_numbers_and_doubles_beyond_2_to_53_are_never_taken_for_each_other() -> None:
    """CEL compares them as doubles, and said 2^53 + 1 == 2^53.0."""
    with structlog.testing.capture_logs() as told:
        assert not _is("event.data.a == event.data.b", a=BEYOND + 1, b=float(BEYOND))
        assert not _is("event.data.a in event.data.b", a=BEYOND + 1, b=[float(BEYOND)])
        assert not _is("event.data.a >= 9007199254740992.0 && event.data.a <= 9007199254740992.0", a=BEYOND + 1)
        assert not _is("event.data.a == 9007199254740993", a=float(BEYOND))
        assert not _is("event.data.a == -9007199254740993", a=-float(BEYOND))
    assert len(told) == 5
    assert "cannot hold or compare exactly" in told[0]["event"]
    assert told[0]["number"] == "9007199254740992.0"


def test_numbers_that_cel_does_tell_apart_are_compared_as_ever() -> None:
    with structlog.testing.capture_logs() as told:
        assert _is("event.data.a == event.data.b + 1", a=BEYOND + 1, b=BEYOND)
        assert _is("event.data.a == event.data.b", a=BEYOND, b=float(BEYOND))
        assert _is("event.data.a > event.data.b", a=BEYOND + 1, b=0.5)
        assert _is("event.data.a > 1e300 && event.data.b == 18446744073709551615u", a=1.5e300, b=2**64 - 1)
        assert _is("event.data.a * 2.0 > 1e16", a=1e16)
    assert not told


def test_an_expression_is_told_of_once_and_only_for_what_it_looks_at() -> None:
    expression = Expression("event.data.n + 1 > 3", "function 'f', if_")
    with structlog.testing.capture_logs() as told:
        assert expression.matches({"data": {"n": 5, "other": 2**70}})
        assert not told
        assert not expression.matches({"data": {"n": 2**70}})
        assert not expression.matches({"data": {"n": 2**71}})
    assert [(one["where"], one["expression"], one["number"]) for one in told] == [
        ("function 'f', if_", "event.data.n + 1 > 3", str(2**70))
    ]


def test_a_key_that_cel_cannot_compute_is_all_it_looks_at() -> None:
    """As null, as other errors are, different events would share it: one of them would be dropped."""
    key = "string(event.data.a) + event.data.b"
    assert _of(key, a=1, b="x", other=1) == "1x"
    first, second = _of(key, a=2**64 + 1, b="x", other=1), _of(key, a=2**64 + 2, b="x", other=1)
    assert codec.canonical(first) != codec.canonical(second)
    assert first == _of(key, a=2**64 + 1, b="x", other=2)


@pytest.mark.parametrize(
    ("text", "data", "value"),
    [
        ("event.data.text.size()", {"text": "four"}, 4),
        ("event.data.size()", {"size": 1, "b": 2}, 2),
        ("event.data.list.exists(one, one.n == 2)", {"list": [{"n": 1}, {"n": 2}]}, True),
        ("event.data.list[1].n", {"list": [{"n": 1}, {"n": 2}]}, 2),
        ("event.data['a-b']", {"a-b": 1}, 1),
        ('"event.data.a" + event.data.a', {"a": "x"}, "event.data.ax"),
        ("has(event.data.a) ? event.data.a : 'none'", {}, "none"),
        ("has(event.data.a.b)", {"a": {"b": None}}, True),
        ("event.data.a.b + event.data.a.c", {"a": {"b": 1, "c": 2}}, 3),
        ("event.data.a.b == event.data.a['b']", {"a": {"b": 1}}, True),
        ("event.data == {'a': 1}", {"a": 1}, True),
        ("event.data.a.b", {"a": "text"}, None),
        ("event.data.a.b", {}, None),
        ("1 + 1", {}, 2),
    ],
)
def test_an_expression_sees_all_it_looks_at(text: str, data: dict[str, Any], value: Any) -> None:
    assert _of(text, **data) == value


def test_a_method_is_no_field_of_a_payload() -> None:
    class Order(EventData):
        name: str

    Expression("event.data.name.startsWith('x') && event.data.size() > 0", "here").check(Order)
    with pytest.raises(ConfigError, match="names 'two'"):
        Expression("event.data.list.exists(one, two.n == 2)", "here")
    with pytest.raises(ConfigError, match="unknown field nam"):
        Expression("event.data.nam.startsWith('x')", "here").check(Order)


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, 1.0), (0, -0.0), (1e3, 1000), ({"a": 1, "b": [2.0]}, {"b": [2], "a": 1}), (2**70, float(2**70))],
)
def test_equal_values_have_one_canonical_text_and_match(one: Any, other: Any) -> None:
    assert codec.canonical(one) == codec.canonical(other)
    assert answers({"data": {"x": one}}, {"data": {"x": other}}, "data.x", None)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, "1"), (True, "true"), (True, 1), (None, "null"), ([1], "[1]"), (0.1, "0.1"), ({}, []), ([1, 2], [2, 1]),
        (2**53 + 1, float(2**53)), (2**64 + 1, 2**64), (2**70 + 1, float(2**70)), (0.1 + 0.2, 0.3),
    ],
)  # fmt: skip
def test_different_values_have_different_texts_and_do_not_match(one: Any, other: Any) -> None:
    assert codec.canonical(one) != codec.canonical(other)
    assert not answers({"data": {"x": one}}, {"data": {"x": other}}, "data.x", None)


def test_what_is_nested_too_deep_is_equal_to_nothing_and_stops_nobody() -> None:
    deep: Any = 1
    for _ in range(900):
        deep = [deep]
    assert not answers({"data": {"x": deep}}, {"data": {"x": deep}}, "data.x", None)
    assert _of("event.data.x", x=deep) is deep


STORED = [
    '{"id":"e","name":"a/b","data":{"n":1,"class":{"x":[1,2]},"text":"ü"},"ts":5}',
    '{"id":"e","name":"a/b","data":{"n":9007199254740993},"ts":5,"v":"2"}',
    '{"id":"e","name":"a/b","data":{"n":9007199254740992.0},"ts":5}',
    '{"id":"e","name":"a/b","data":{"n":99999999999999999999},"ts":5}',
    '{"id":"e","name":"a/b","data":[1,2],"ts":5}',
    '{"id":"e","name":"a/b","data":null,"ts":5}',
    '{"id":"e","name":"a/b","data":{"class":7,"n":null},"ts":5}',
    '{"id":"e","name":"a/b","data":{},"ts":5}',
]
ASKED = [
    "event.data.n < 2", "event.data.n == 9007199254740992", "event.data.n > 1.0", "event.data['n'] == 1",
    "event.data.class.x[1] == 2", "event.data.class.x == [1, 2]", "has(event.data.n)", "!has(event.data.n)",
    "event.name == 'a/b' && event.ts == 5", "event.data.text.startsWith('ü')", "event.v == '2'", "event.v == null",
    "size(event.data) == 2", "output.n == event.data.n", "output == null", "event.data == null", "event.data.n + 1 > 0",
    "event == event", "event.data.n in [1, 2]", "[1, 2].exists(one, one == event.data.n)", "event.data.n",
]  # fmt: skip


@pytest.mark.parametrize("text", ASKED)
@pytest.mark.parametrize("output", [None, {"n": 1}, 7])
def test_of_a_stored_event_only_what_is_used_is_read_and_what_is_true_stays_true(text: str, output: object) -> None:
    expression = Expression(text, "here", other="output")
    for stored in STORED:
        event = codec.decode_as(stored, RawEvent)
        found = expression.matches_stored(stored.encode(), output)
        assert found in (None, expression.matches(event.plain(), output)), stored


def test_a_stored_event_is_read_in_part_where_it_can_be() -> None:
    expression = Expression("event.data.n < 2", "here", other="output")
    assert [expression.matches_stored(stored.encode()) for stored in STORED[:2]] == [True, False]
    batch = '{"id":"e","name":"a","data":{"n":1},"ts":5,"batch":[{"id":"e","name":"a","data":{"n":1},"ts":5}]}'
    assert [expression.matches_stored(raw) for raw in (batch.encode(), b"{", STORED[4].encode())] == [None] * 3


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("event.data.a" + ".b" * 20_000 + " == 1", "has 40017 characters, an expression at most 4096"),
        ("event.data.a && " * 100_000 + "true", "at most 4096"),
        ("event.data" + ".a" * 1_900 + " == 1", "names 1902 fields within one another, an expression at most 100"),
        (
            "//sdk\nevent.data" + ".a" * 1_900 + " == 1",
            "names 1902 fields within one another, an expression at most 100",
        ),
        ("(" * 2_000 + "1" + ")" * 2_000, "is not an expression"),
        ("[" * 2_000 + "]" * 2_000, "is not an expression"),
    ],
)
def test_a_text_that_is_too_long_or_too_deep_is_refused(text: str, told: str) -> None:
    """A path of 20,000 names ended the process that compiled it."""
    with pytest.raises(ConfigError, match=told):
        Expression(text, "function 'f', if_")


def test_a_pattern_that_takes_others_for_ever_is_answered_and_nothing_of_python_is_reached() -> None:
    data = {"a": "a" * 100_000 + "b", "p": "(a{1000}){1000}", "none": None, "one": "1"}
    for text in (
        "event.data.a.matches('(a+)+$')", "event.data.a.matches(event.data.p)", "event.__class__.__mro__ == 1",
        "event.data.a.__class__ == 1", "event.data.one == 1", "event.data.missing == 1", "event.data.none > 1",
        "__import__('os').system('id') == 0", "'{0.__class__}'.format(event) == ''",
    ):  # fmt: skip
        assert Expression(text, "function 'f', if_").matches({"data": data}) is False, text
