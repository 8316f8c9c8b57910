"""Expressions of the Inngest SDKs: what is missing is null, any value is a condition, whole numbers are doubles."""

from typing import Any

import pytest

from stepstream.bus.errors import ConfigError
from stepstream.bus.values.dialect import as_written, of_sdk
from stepstream.bus.values.expression import Expression

DATA: dict[str, Any] = {
    "x": 1,
    "y": 1.0,
    "s": "q",
    "t": True,
    "no": False,
    "list": [1, 2],
    "null": None,
    "empty": "",
    "deep": {"a": {"b": 2}},
}
EVENT = {"id": "e1", "name": "shop/paid", "ts": 1_700_000_000_000, "data": DATA, "v": None}
OTHER = {"id": "e2", "name": "shop/back", "ts": 1_700_000_000_001, "data": {"x": 1.0, "s": "other"}, "v": None}


@pytest.mark.parametrize(
    ("text", "is_true"),
    [
        ("event.data.x == 1", True),
        ("event.data.y == 1", True),
        ("event.data.x == '1'", False),
        ("event.data.nope == 1", False),
        ("event.data.nope != 1", True),
        ("event.data.nope.deep == 1", False),
        ("event.data.nope.deep != 1", True),
        ("event.data.nope == null", True),
        ("event.data.nil.deep == 1", False),
        ("event.data.x > 0.5 && event.data.nope != 'a'", True),
        ("event.data.nope > 1", False),
        ("event.data.nope || event.data.s", True),
        ("event.data.nope || event.data.empty", False),
        ("event.data.s && event.data.x", True),
        ("event.data.s && event.data.no", False),
        ("!event.data.nope", True),
        ("!event.data.t", False),
        ("!event.data.s || event.data.x == 2", False),
        ("!(event.data.nope || event.data.s)", False),
        ("event.data.nope ? false : true", True),
        ("event.data.s", False),  # only where || and && join them may conditions be anything
        ("event.data.t", True),
        ("event.data.x + 1 == 2", True),
        ("event.data.x + 1.0 == 2.0", True),
        ("has(event.data.nope)", False),
        ("has(event.data.x)", True),
        ("has(event.data.nope.x)", False),
        ("has(event.data.deep.a.b) && event.data.deep.a.b == 2", True),
        ("event.user.id == 'u1'", False),
        ("lowercase('Q') == event.data.s", True),
        ("date('2020-01-01T00:00:00Z') < now()", True),
        ("event.data.list.exists(one, one == 2)", True),
        ("event.data.s in ['q', 'r']", True),
        ("event.data.s == 'a || b ? c : !d'", False),
        ("event.data.s.startsWith('q') && !(event.data.x > 3)", True),
        ("event.data.function_id == 'shop-ship'", False),
    ],
)  # fmt: skip
def test_a_condition_is_what_it_is_on_their_server(text: str, is_true: bool) -> None:
    assert Expression(of_sdk(text), "here").matches(EVENT) is is_true


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("event.data.s", "q"),
        ("event.data.nope", None),
        ("event.data.nope || event.data.s", "q"),
        ("event.data.s + '-' + string(event.data.x)", "q-1"),
        ("event.data.t ? 600 : 0", 600),
        ("'all'", "all"),
    ],
)
def test_a_key_is_the_value(text: str, value: Any) -> None:
    assert Expression(of_sdk(text), "here").value(EVENT) == value


def test_two_events_are_compared_as_they_are() -> None:
    assert Expression(of_sdk("event.data.x == async.data.x"), "here", other="async").matches(EVENT, OTHER)
    assert not Expression(of_sdk("event.data.s == async.data.s"), "here", other="async").matches(EVENT, OTHER)
    assert Expression(of_sdk("async.data.nope != event.data.s"), "here", other="async").matches(EVENT, OTHER)


@pytest.mark.parametrize(
    "text", ["events[0].data.x == 1", "lower(event.data.s) == 'q'", "event.data.x ==", "vars.x == 1"]
)
def test_what_could_never_be_true_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="here: "):
        Expression(of_sdk(text), "here")


def test_pages_show_what_the_author_wrote() -> None:
    assert Expression(of_sdk("event.data.x == 1"), "here").text == "event.data.x == 1"
    assert as_written(of_sdk("event.data.x")) == as_written("event.data.x") == "event.data.x"
