"""JSON Schemas of payload types: they never refuse what the type takes, and say which field is wrong."""

# ruff: noqa: RUF012
import enum
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from ipaddress import IPv4Address
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta
from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    HttpUrl,
    SecretStr,
    create_model,
    model_validator,
)  # fmt: skip
from pydantic.alias_generators import to_camel
from pydantic.dataclasses import dataclass as pydantic_dataclass

from stepstream import EventData
from stepstream.bus.values import codec
from stepstream.bus.values.fitting import misfit
from stepstream.bus.values.schemas import schema_of


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True):
    name: str


class Pair(NamedTuple):
    a: int
    b: str = ""


class Inner(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)
    user_ids: list[int] = []


class Everything(EventData, rename="camel"):
    an_int: int = 0
    a_float: float = 0.0
    money: Decimal = Decimal(1)
    tags: set[str] = set()
    at: datetime | None = None
    day: date | None = None
    took: timedelta | None = None
    key: uuid.UUID | None = None
    colour: Colour = Colour.RED
    level: Level = Level.LOW
    pet: Cat | Dog | None = None
    cat: Cat | None = None
    pair: Pair | None = None
    by_id: dict[int, list[int]] = {}
    few: Annotated[list[Annotated[int, Meta(ge=0, le=9)]], Meta(max_length=2)] = []
    code: Annotated[str, Meta(pattern="^[a-z]+$", max_length=3)] = "a"
    word: Literal["x", 1] | None = None
    both: int | str | list[int] = 0
    model: Inner | None = None
    anything: Any = None


@dataclass
class Kept:
    a: int
    b: str = "b"
    c: int = field(default=3, init=False)


class Noted(TypedDict):
    order: int
    hint: NotRequired[str]


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    n: int = 0


class Loose(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")
    an_int: int = 0
    a_float: float = 0.0
    yes: bool = False
    money: Decimal = Decimal(1)
    at: datetime | None = None
    day: date | None = None
    took: timedelta | None = None
    tags: set[int] = set()
    colour: Colour = Colour.RED
    level: Level = Level.LOW
    pet: Annotated[Strict | Inner | None, Field()] = None
    several: int = Field(default=0, validation_alias=AliasChoices("one", "two"))
    url: HttpUrl | None = None
    trimmed: Annotated[str, Field(max_length=2)] = ""
    changed: Annotated[int, BeforeValidator(lambda it: len(it) if isinstance(it, list) else it)] = 0
    few: list[Annotated[int, Field(ge=0, le=9)]] = []


class Trimmed(BaseModel):
    model_config = ConfigDict(str_strip_whitespace=True)
    code: str = Field(default="", max_length=2)


class Before(BaseModel):
    n: int

    @model_validator(mode="before")
    @classmethod
    def from_anything(cls, value: Any) -> Any:
        return {"n": 1} if "m" in value else value


class Recursive(EventData):
    below: "list[Recursive]" = []
    n: int = 0


KINDS: list[Any] = [Everything, Kept, Noted, Strict, Loose, Trimmed, Before, Recursive, Cat, Inner]
NAMES = sorted({name for kind in KINDS for name in [
    "anInt", "aFloat", "money", "tags", "at", "day", "took", "key", "colour", "level", "pet", "cat", "pair", "byId", "few",
    "code", "word", "both", "model", "anything", "a", "b", "c", "order", "hint", "n", "an_int", "yes", "several", "one",
    "two", "url", "trimmed", "changed", "m", "below", "lives", "type", "userIds", "name",
]})  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 12) | st.sampled_from([2**70, 1.0, 1.5, -0.5, 1e300])
    | st.sampled_from(["", "a", "abcd", "5", " 5 ", "1.0", "1.5", "1e3", "true", "off", "red", "x", "P3D", "PT5S",
                       "2020-01-01", "2020-01-01T00:00:00", "2020-01-01 00:00:00Z", "1577836800", "http://a.b", "Cat", "Dog",
                       "c4524ac0e81e4aa88a595fb7c2b5eb24", "c4524ac0-e81e-4aa8-8a59-5fb7c2b5eb24", "YQ==", " a "]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from([*NAMES, "1", "x"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@given(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=3))
def test_what_a_type_takes_its_schema_takes_too(kind: Any, data: dict[str, Any]) -> None:
    if codec.misfit(codec.encode(data), kind) is None:
        assert misfit(schema_of(kind).text, data) is None


class Named(enum.Enum):
    RED = "red"

    @classmethod
    def _missing_(cls, value: object) -> "Named | None":
        return cls.RED if str(value).lower() == "red" else None


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@pydantic_dataclass
class Plain:
    n: int


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Named, "RED"),
        (Rights, 3),
        (dict[Named, int], {"Red": 1}),
        (Annotated[str, Meta(pattern=r"^\w+$")], "Müller"),
        (Annotated[str, Meta(pattern=r"^\d$")], "٣"),
        (Annotated[str, Meta(pattern="^[a-z]+$")], "abc\n"),
    ],
)
def test_an_odd_value_that_a_field_takes_is_not_refused_elsewhere(kind: Any, value: Any) -> None:
    struct = msgspec.defstruct("Struct", [("f", kind)])
    assert codec.misfit(codec.encode({"f": value}), struct) is None
    assert misfit(schema_of(struct).text, {"f": value}) is None


@pytest.mark.parametrize(
    ("kind", "options", "value"),
    [
        (Named, {}, "RED"),
        (dict[Named, int], {}, {"RED": 1}),
        (IPv4Address, {}, 3232235777),
        (SecretStr, {"coerce_numbers_to_str": True}, 5),
        (Literal[True], {}, 1),
        (complex, {}, 1.5),
        (Pair, {}, {"a": 1}),
        (Plain, {"strict": True}, {"n": "1"}),
        (Iterable[int], {}, {"x": 1}),
        (Annotated[str, Field(pattern=r"^\w+$")], {}, "Müller"),
        (Annotated[str, Field(pattern=r"^\d$")], {"regex_engine": "python-re"}, "٣"),
    ],
)
def test_an_odd_value_that_a_models_field_takes_is_not_refused_elsewhere(
    kind: Any, options: ConfigDict, value: Any
) -> None:
    model = create_model("Model", __config__=options, f=(kind, ...))
    assert codec.misfit(codec.encode({"f": value}), model) is None
    assert misfit(schema_of(model).text, {"f": value}) is None


def test_what_patterns_do_refuse_is_still_refused_elsewhere() -> None:
    struct = msgspec.defstruct("Struct", [("zip", Annotated[str, Meta(pattern=r"^\d{5}$")])])
    assert str(misfit(schema_of(struct).text, {"zip": "x"})) == r"data.zip: expected text matching '^\\d{5}$', got 'x'"
    model = create_model("Model", code=(Annotated[str, Field(pattern="^[a-z]+$")], ...))
    assert misfit(schema_of(model).text, {"code": "A"}) is not None


@pytest.mark.parametrize("kind", KINDS)
def test_each_type_has_a_schema(kind: Any) -> None:
    assert schema_of(kind).exact


@pytest.mark.parametrize(
    ("kind", "data", "told"),
    [
        (Everything, {"anInt": "x"}, "data.anInt: expected integer, got string"),
        (Everything, {"few": [1, 10]}, "data.few[1]: 10 is greater than the maximum of 9"),
        (Everything, {"day": "soon"}, "data.day: expected date, got 'soon'"),
        (Everything, {"at": 3}, "data.at: expected string or null, got integer"),
        (Everything, {"pet": {"type": "Dog", "name": 3}}, "data.pet.name: expected string, got integer"),
        (Everything, {"byId": {"1": ["x"]}}, "data.byId[1][0]: expected integer, got string"),
        (Everything, {"colour": "green"}, "data.colour: expected 'blue' or 'red', got 'green'"),
        (Everything, {"model": {"userIds": ["x"]}}, "data.model.userIds[0]: expected integer, got string"),
        (Everything, {"code": "A"}, "data.code: expected text matching '^[a-z]+$', got 'A'"),
        (Kept, {}, "data.a: is missing"),
        (Noted, {"order": None}, "data.order: expected integer, got null"),
        (Strict, {"n": "5"}, "data.n: expected integer, got string"),
        (Strict, {"m": 1}, "data.m: is no field of it"),
        (Loose, {"anInt": "many"}, "data.anInt: expected integer, got string"),
        (Loose, {"anInt": []}, "data.anInt: expected boolean or integer or string, got array"),
        (Loose, {"yes": "si"}, "data.yes: expected boolean, got string"),
        (Recursive, {"below": [{"n": "x"}]}, "data.below[0].n: expected integer, got string"),
    ],
)
def test_what_does_not_fit_is_told_with_its_path(kind: Any, data: Any, told: str) -> None:
    assert codec.misfit(codec.encode(data), kind) is not None
    assert str(misfit(schema_of(kind).text, data)) == told


def test_two_types_that_take_the_same_have_one_schema() -> None:
    class A(EventData, name="x"):
        """What A is."""

        n: int = 3

    class B(EventData):
        n: int = 4

    assert schema_of(A) == schema_of(B) != schema_of(Recursive)


def test_a_type_without_a_schema_takes_everything_and_says_whose_it_is() -> None:
    class Odd(msgspec.Struct):
        n: "NotThere"  # type: ignore[name-defined] # noqa: F821

    made = schema_of(Odd)
    assert not made.exact
    assert b"Odd: only its own application can check it" in made.text
    assert misfit(made.text, {"n": object}) is None


@pytest.mark.parametrize("pattern", [{"pattern": r"(?P<a>x)(?(a)y|z)\Z"}, {"pythonPattern": "("}])
def test_a_schema_that_this_validator_does_not_know_refuses_nothing(pattern: dict[str, str]) -> None:
    assert misfit(codec.encode({"properties": {"n": pattern}}), {"n": "q"}) is None
    assert misfit(b'{"$ref": "http://127.0.0.1:9/x"}', {}) is None
    assert misfit(b"[1]", {}) is None
    deep: Any = []
    for _ in range(5_000):
        deep = [deep]
    assert misfit(schema_of(Everything).text, {"anything": deep}) is None
