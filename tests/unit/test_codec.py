"""Codec: what JSON cannot hold is refused with its path, and nothing is too deep for an answer. No Redis."""

from dataclasses import dataclass
from enum import Enum
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepstream.bus.bus import Bus
from stepstream.bus.errors import EventInvalid
from stepstream.bus.event import EventData, NewEvent
from stepstream.bus.values import codec
from stepstream.bus.values.codec import NotJson

NAN, INFINITE = float("nan"), float("inf")


class Reading(EventData, name="meter/read", rename="camel"):
    kilo_watts: float
    note: str | None = None


@dataclass
class Point:
    x: float
    y: float | None = None


class Ours(dict[str, Any]):
    pass


class Metres(float):
    pass


class Unit(float, Enum):
    NONE = NAN


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (NAN, ""),
        (-INFINITE, ""),
        ({"a": {"b": [None, 1.5, NAN]}}, "a.b[2]"),
        ({"a": None, "b": Ours(c=INFINITE)}, "b.c"),
        ([1, (2, Metres("nan"))], "[1][1]"),
        (Metres("inf"), ""),
        ({"unit": Unit.NONE}, "unit"),
        (Point(1.0, NAN), "y"),
        (Reading(NAN), "kiloWatts"),
        ({"points": {"first": [Point(0.0, None), Point(INFINITE)]}}, "points.first[1].x"),
        ({"raw": msgspec.Raw(b'{"n":null}'), "x": NAN}, "x"),
        ({7: {1.5: NAN}}, "7.1.5"),
    ],
)
def test_a_number_that_json_does_not_have_is_refused_with_its_path(value: Any, path: str) -> None:
    with pytest.raises(NotJson, match=r"finite number, got (nan|-?inf)") as told:
        codec.encode(value)
    assert told.value.path == path


@pytest.mark.parametrize(
    ("value", "json"),
    [
        (None, b"null"),
        ({"a": None, "b": [None, "null", Point(1.0)]}, b'{"a":null,"b":[null,"null",{"x":1.0,"y":null}]}'),
        ({"m": Metres(2.5)}, b'{"m":2.5}'),
        ({"raw": msgspec.Raw(b"null")}, b'{"raw":null}'),
        ({NAN: 1}, b'{"nan":1}'),
    ],
)
def test_null_and_users_own_floats_are_no_reason_to_refuse(value: Any, json: bytes) -> None:
    assert codec.encode(value) == json


TEXT = st.text(
    st.characters(exclude_categories=["Cs"])
)  # what UTF-8 can hold, for which hypothesis need not ask the codec of each character
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | TEXT | st.floats(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


def holds_none_such(value: Any) -> bool:
    """Whether every number is finite: the slow and obvious way."""
    if isinstance(value, float):
        return value == value and abs(value) != INFINITE
    if isinstance(value, dict):
        return all(map(holds_none_such, value.values()))
    return all(map(holds_none_such, value)) if isinstance(value, list) else True


@given(PLAIN)
def test_what_is_encoded_comes_back_as_it_was_and_the_rest_is_refused(value: Any) -> None:
    if holds_none_such(value):
        assert codec.decode(codec.encode(value)) == value
    else:
        with pytest.raises(NotJson):
            codec.encode(value)


def test_what_is_too_deep_to_be_read_is_told_as_no_json_and_not_as_a_crash() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    for read in (
        codec.decode,
        lambda raw: codec.decode_as(raw, list[Any]),
        lambda raw: codec.decode_as(raw, msgspec.Raw),
    ):
        with pytest.raises(msgspec.DecodeError, match="nested too deep"):
            read(deep)
    assert codec.pretty(deep) == deep.decode()


async def test_an_event_with_a_number_that_json_does_not_have_names_event_and_field() -> None:
    app = Bus("shop")
    with pytest.raises(EventInvalid, match=r"event 1: data\.kiloWatts: must be a finite number, got nan") as told:
        await app.send([Reading(1.0), Reading(NAN)])
    assert (told.value.field, told.value.position) == ("data.kiloWatts", 1)
    with pytest.raises(EventInvalid) as told:
        await app.send(NewEvent("a", {"x": [{"y": INFINITE}]}))
    assert told.value.field == "data.x[0].y"
    with pytest.raises(EventInvalid) as told:
        await app.send("a", Ours(z=NAN))
    assert told.value.field == "data.z"
