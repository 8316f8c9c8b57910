"""The registry: limits and conditions are fields, and those that an older version has told in words are read the same."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from stepstream import Batch, Bus, Concurrency, Context, Debounce, RateLimit, Singleton, Step, Throttle
from stepstream.bus.trigger import On
from stepstream.bus.values import codec, dialect
from stepstream.bus.values.expression import Expression
from stepstream.bus.wire.registering import Registered, declaration

LIMITS: list[dict[str, Any]] = [
    {},
    {"concurrency": [Concurrency(2, key="event.data.who"), Concurrency(9, key="event.data.x", shared="api/calls")]},
    {"concurrency": 3, "throttle": Throttle(5, "1m", key="event.data.a"), "priority": "event.data.p"},
    {"rate_limit": RateLimit(7, timedelta(hours=5)), "singleton": Singleton("skip", key="event.data.who")},
    {"debounce": Debounce(timedelta(days=2))},
    {"batch": Batch(4, "10s")},
    {"concurrency": [Concurrency(1, key="event.data.a +\n event.data.b", shared="s")]},
]


def registered(**limits: Any) -> Registered:
    app = Bus("t")

    @app.function("f", on=["plain", On("asks", if_="event.data.n > 1 && event.data.text != ' if '")], **limits)
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None: ...

    return declaration(next(iter(app.functions.values())))


@pytest.mark.parametrize("limits", LIMITS, ids=str)
def test_what_an_older_version_registered_in_words_reads_as_the_fields(limits: dict[str, Any]) -> None:
    one = registered(**limits)
    assert len(one.limits) == len(one.flow)
    assert one.conditions == {"asks": "event.data.n > 1 && event.data.text != ' if '"}
    assert codec.decode_as(codec.encode(one), Registered) == one
    older = codec.decode_as(codec.encode(one), dict[str, Any])
    del older["limits"], older["conditions"]
    assert codec.decode_as(codec.encode(older), Registered) == one


def test_limits_have_their_number_and_the_name_they_are_shared_by() -> None:
    told = [(one.kind, one.number, one.shared) for one in registered(**LIMITS[1]).limits]
    assert told == [("concurrency", 2, ""), ("concurrency", 9, "api/calls")]


def test_a_condition_is_registered_in_the_dialect_that_it_is_written_in() -> None:
    """One in plain CEL of an application behind HTTP was evaluated as an SDK's."""
    text = "event.data.n != 1"
    assert Expression(dialect.of_sdk(text), "here").marked == dialect.of_sdk(text)
    assert Expression(dialect.of_sdk(dialect.of_own(text)), "here").marked == text
    old = Registered("t", "f", "f", "t-f", (f"a if {text}",), ("a",), 4, "code", remote=True)
    assert old.conditions == {"a": dialect.of_sdk(text)}
    assert msgspec.structs.replace(old, conditions={"a": text}).conditions == {"a": text}
