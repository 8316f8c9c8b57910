"""Work: an expression that would hold a worker up is refused, or counts as false for the event and says why."""

from typing import Any

import pytest
import structlog

from stepstream.bus.errors import ConfigError
from stepstream.bus.values import codec
from stepstream.bus.values.cel.cost import cost_of
from stepstream.bus.values.cel.tree import NotRead, tokens_of
from stepstream.bus.values.dialect import of_sdk
from stepstream.bus.values.expression import Expression

TEN = "[1,2,3,4,5,6,7,8,9,10]"
THOUSAND = f"[{','.join(['1'] * 1_000)}]"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"{THOUSAND}.all(a, {THOUSAND}.all(b, true))", id="a million rounds"),
        pytest.param(f"{TEN}.all(a, {TEN}.all(b, {TEN}.all(c, {TEN}.all(d, {TEN}.all(e, {TEN}.all(f, true))))))", id="nested"),
        pytest.param("[[1,1]]" + ".map(a, a + a)" * 16 + ".size() > 0", id="each map doubles by adding"),
        pytest.param("[1]" + ".map(a, [a, a])" * 25 + ".size() > 0", id="each map doubles by a list"),
        pytest.param("[1]" + ".map(a, {'x': a, 'y': a})" * 25 + ".size() > 0", id="each map doubles by a map"),
        pytest.param(" || ".join(['"a".matches("(\\\\pL{900}){9}")'] * 9), id="patterns that are large when compiled"),
        pytest.param(" + ".join(["event.data.s"] * 18) + " == ''", id="a text that is joined seventeen times"),
        pytest.param(f"r'\\' == '' || {THOUSAND}.all(a, {THOUSAND}.all(b, true)) || r'\\' == ''", id="behind a raw text"),
        pytest.param(f"'''' '''== '' || {THOUSAND}.all(a, {THOUSAND}.all(b, true)) || ''''.'''==''", id="behind long texts"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("mark", [str, of_sdk])
def test_what_is_too_much_work_with_any_event_is_refused_where_it_is_declared(text: str, mark: Any) -> None:
    with pytest.raises(ConfigError, match=r"function 'f', if_: .* is too much work: it (copies up to|has 17 `\+`)"):
        Expression(mark(text), "function 'f', if_")


def test_a_loop_is_seen_behind_comments() -> None:
    with pytest.raises(ConfigError, match="too much work: it copies up to"):
        Expression(f"{THOUSAND}.all//'\n(a, {THOUSAND}//\".all(\n.all(b, true))", "function 'f', if_")


def _data(value: Any) -> dict[str, Any]:
    return {"l": value, "n": 1, "s": "x" * 1_000, "p": "(\\w{90}){9}", "j": f"[{'1,' * 100_000}1]", "t": [2] * 3_000}


LARGE: list[Any] = [
    pytest.param("event.data.l.all(x, event.data.l.all(y, x + y > 0))", [1] * 1_000, id="a list for each of its members"),
    pytest.param("event.data.l.all(x, event.data.n == 1)", [1] * 3_000, id="the event for each of a list's members"),
    pytest.param("event.data.l.map(x, x + 1).size() > 0", [1] * 3_000, id="map copies what it has"),
    pytest.param("event.data.l.filter(x, x == 1).size() > 0", [1] * 3_000, id="filter copies what it has"),
    pytest.param("event.data.l.map(x, x).size() > 0", [[1] * 1_000] * 100, id="map copies large members"),
    pytest.param("event.data.l.map(x, event.data.l).map(y, y + y).size() > 0", [1] * 200, id="map makes squares"),
    pytest.param("event.data.l.map(x, true, event.data.l).size() > 0", [1] * 300, id="map with a condition"),
    pytest.param("event.data.l.all(o, o.i.all(i, i + o.n > 0))", [{"i": [1] * 2_000, "n": 1}], id="outer for inner"),
    pytest.param("event.data.l.all(x, event.data.t.all(t, t == 2))", [1] * 100, id="another list for each member"),
    pytest.param("event.data.l.all(x, x == 'tag')", ["tag"] * 100_000, id="very many texts"),
    pytest.param("event.data.l.all(k, k != '')", {str(n): n for n in range(50_000)}, id="a map of very many"),
    pytest.param("event.data.l.all(x, event.data.s != '')", [1] * 2_000, id="a long text for each member"),
    pytest.param("event.data.l.all(x, !'a'.matches(event.data.p))", [1] * 100, id="the event's pattern for each member"),
    pytest.param("'a'.matches(event.data.l)", "a?" * 100_000, id="a long pattern"),
    pytest.param(" && ".join(["event.data.l.size() > 0"] * 20), [1] * 100_000, id="a large list that is named often"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), LARGE)
def test_what_is_too_much_work_for_an_event_is_false_and_says_why(text: str, value: Any) -> None:
    few = dict([*value.items()][:4]) if isinstance(value, dict) else value[:1]
    if few == [{"i": [1] * 2_000, "n": 1}]:
        few = [{"i": [1], "n": 1}]
    expression = Expression(text, "function 'f', if_")
    small = _data(few) | {"p": "b+", "t": [2, 2], "s": "x"}
    assert expression.matches({"data": small})
    assert expression.why_not({"data": small}) is None
    data = _data(value)
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            assert not expression.matches({"data": data})
            assert not expression.matches_stored(codec.encode({"data": data}))
            assert isinstance(expression.value({"data": data}), dict), "events that differ have different keys"
    assert expression.why_not({"data": data}).startswith("for so large an event it would copy up to ")  # type: ignore[union-attr]
    [told] = logs
    assert (told["expression"], told["where"], told["most"]) == (text, "function 'f', if_", "2,000,000")
    assert int(told["work"].replace(",", "")) > 2_000_000


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("event.data.l.exists(t, t == 'x')", ["a tag"] * 10_000 + ["x"]),
        ("event.data.l.exists(t, t == event.data.n)", [2] * 900 + [1]),
        ("event.data.l.exists(o, o.items.exists(i, i.sku == 'x'))", [{"items": [{"sku": "a"}] * 20}] * 100 + [{"items": [{"sku": "x"}]}]),
        ("event.data.l.filter(i, i.n > 1).map(i, i.n).exists(n, n == 3)", [{"n": 2, "sku": "a"}] * 200 + [{"n": 3}]),
        ("event.data.l.exists(x, x.matches('^a[0-9]{2,4}$'))", ["abc"] * 500 + ["a123"]),
        ("'a'.matches(event.data.l)", "^[a-z]+$"),
        ("['a', 'b', 'c'].exists(x, x == event.data.l)", "c"),
        ("'x' in event.data.l", ["a tag"] * 100_000 + ["x"]),
        ("event.data.l == '.map(x, [event, event]).map(x, [x, x])'", ".map(x, [event, event]).map(x, [x, x])"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("mark", [str, of_sdk])
def test_what_people_ask_of_lists_is_answered(text: str, value: Any, mark: Any) -> None:
    expression = Expression(mark(text), "function 'f', if_")
    assert expression.why_not({"data": _data(value)}) is None
    assert expression.matches({"data": _data(value)})


def test_of_an_sdk_the_same_is_counted_and_what_its_functions_make_of_texts() -> None:
    for text in ("event.data.l.all(x, event.data.n == 1)", "json_parse(event.data.j).all(x, event.data.n == 1)"):
        expression = Expression(of_sdk(text), "f, if")
        assert expression.matches({"data": {"l": [1], "n": 1, "j": "[1]"}})
        assert not expression.matches({"data": _data([1] * 3_000)})
        assert "would copy up to" in str(expression.why_not({"data": _data([1] * 3_000)}))


@pytest.mark.parametrize("text", ["event.data.l.exists(x, 'a'.matches(x))", "'a'.matches(event.data.l[0])"])
def test_a_pattern_that_is_not_known_before_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="what `matches` looks for must be a text in it or a field of the event"):
        Expression(text, "f, if_")
    assert Expression("'ab1'.matches('^' + event.data.l + '[0-9]$')", "f, if_").matches({"data": _data("ab")})


@pytest.mark.parametrize(
    "pattern",
    [r"\pL{150}", r"\w{100}\w{200}", "(?i)é{1000}", "(?x) (a{100}) {100}", "((a{99}){99}){99}", r"[\w-]{300}", "a?" * 20_000],
)  # fmt: skip
def test_a_pattern_of_an_event_that_is_large_when_it_is_compiled_is_not(pattern: str) -> None:
    expression = Expression("['a', 'b'].all(x, x.matches(event.data.p)) || true", "f, if_")
    assert expression.matches({"data": {"p": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"}})
    assert not expression.matches({"data": {"p": pattern}})


def test_a_long_text_is_not_looked_through_for_many_states_and_is_for_few() -> None:
    """The library goes through 300 states for each character where it can make no table of them: 1 s for 300 KB."""
    data = {"s": "ab" * 150_000 + "order 7"}
    many = Expression("event.data.s.matches('^([ab]*a[ab]{200}c|[ab]*b[ab]{100}d)$') || true", "f, if_")
    assert "would copy up to" in str(many.why_not({"data": data}))
    assert Expression("event.data.s.matches('order [0-9]+')", "f, if_").matches({"data": data})


def test_both_events_are_counted() -> None:
    expression = Expression("event.data.l.exists(x, x == async.data.n)", "f, if_", other="async")
    few, many = {"data": {"l": [1]}}, {"data": {"l": [1] * 100}}
    large = {"data": {"n": [1] * 100_000}}
    assert expression.matches(few, {"data": {"n": 1}})
    assert expression.why_not(many, {"data": {"n": 1}}) is None
    assert expression.why_not(many, large) is not None


@pytest.mark.parametrize(
    "text", ["event.data.n == 1", "event.data.a == 'x' && event.data.b > 2 || has(event.data.map)"]
)
def test_where_there_is_no_loop_nothing_is_counted(text: str) -> None:
    assert cost_of(text) is None


def test_the_count_depends_on_the_event_and_on_nothing_else() -> None:
    cost = cost_of("event.data.l.all(x, event.data.n == 1)")
    assert cost is not None
    counts = [cost.of({"event": {"data": {"n": 1, "l": [1] * many}}}) for many in (1, 1_000, 1_000, 2_000)]
    assert counts[0] == 0, "so little is not counted"
    assert counts[1] == counts[2]
    assert 3 < counts[3] / counts[1] < 5, "twice as many are four times the work"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("(" * 40 + "event.data.a" + " || event.data.b)" * 40, "make more than 65536 characters"),
        ("(" * 1_500 + "1" + ")" * 1_500, "is not an expression"),
        ("!" * 2_000 + "event.data.a", "is not an expression"),
    ],
)
def test_an_expression_of_an_sdk_that_doubles_when_it_is_rewritten_is_refused(text: str, told: str) -> None:
    """It was written twice for each pair of brackets: memory, and the process was ended."""
    with pytest.raises(ConfigError, match=told):
        Expression(of_sdk(text), "f, if")


def test_what_is_not_understood_is_refused_where_work_is_counted() -> None:
    with pytest.raises(NotRead):
        tokens_of("event.data.l.all(x, x == 'a)")
    with pytest.raises(ConfigError, match="nested more than 48 deep; write it simpler"):
        Expression("(" * 60 + "event.data.l.all(x, x == 1)" + ")" * 60, "f, if_")
