"""Forms made from types: what is asked for, and the JSON that the answers make."""

import enum
import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, Field

from stepstream.bus.errors import EventInvalid
from stepstream.bus.values.fitting import misfit
from stepstream.bus.values.schemas import schema_of
from stepstream.bus.wire.types.form_fields import example_text, form_fields, json_text


class Size(enum.Enum):
    SMALL = "s"
    BIG = "b"


@dataclass
class Line:
    sku: str
    count: int


@dataclass
class Order:
    id: str
    total: Decimal
    lines: list[Line]
    first: Line
    count: int = 1
    size: Size = Size.SMALL
    gift: bool = False
    note: str | None = None
    either: int | list[int] = 0


class Model(BaseModel):
    user: str = Field(min_length=2)
    age: int
    score: float | None = None
    size: Size = Size.BIG


def of(kind: type[Any]) -> dict[str, tuple[str, bool]]:
    return {one.name: (one.kind, one.required) for one in form_fields(schema_of(kind).text)}


def test_each_field_is_asked_for_in_the_way_it_is_meant() -> None:
    assert of(Order) == {
        "id": ("text", True), "total": ("text", True), "lines": ("json", True), "first": ("json", True),
        "count": ("number", False), "size": ("choice", False), "gift": ("choice", False), "note": ("text", False),
        "either": ("json", False),
    }  # fmt: skip
    assert of(Model) == {
        "user": ("text", True), "age": ("number", True), "score": ("number", False), "size": ("choice", False),
    }  # fmt: skip


@pytest.mark.parametrize("kind", [Order, Model])
def test_what_is_filled_in_fits_the_type(kind: type[Any]) -> None:
    schema = schema_of(kind).text
    fields = form_fields(schema)
    given = {"id": "x", "total": "1.5", "user": "ann", "age": "7", "count": " 12345678901234567890 ", "size": '"s"'}
    given |= {one.name: one.value for one in fields if one.value}
    made = json_text(fields, given)
    assert misfit(schema, json.loads(made)) is None, made
    assert b"note" not in made, "what is left empty is left out"
    if kind is Order:
        assert b'"count":12345678901234567890' in made, "a number stays as it was written"
        assert json.loads(example_text(schema))["first"] == {"sku": "", "count": 0}


@pytest.mark.parametrize(
    ("field", "text"),
    [("age", "seven"), ("age", '"7"'), ("age", '1,"admin":true'), ("age", "true"), ("lines", "[1"), ("size", "s")],
)
def test_a_field_that_is_none_of_its_kind_is_named(field: str, text: str) -> None:
    fields = [*form_fields(schema_of(Model).text), *form_fields(schema_of(Order).text)]
    with pytest.raises(EventInvalid, match=field):
        json_text([one for one in fields if one.name == field][:1], {field: text})


@pytest.mark.parametrize(
    "schema",
    [b"", b"[]", b"null", b"{}", b'{"properties":[]}', b'{"properties":{"a":7}}', b'{"$ref":"#/$defs/A"}',
     b'{"properties":{"a":{"$ref":"#/$defs/A"}},"$defs":{"A":{"$ref":"#/$defs/A"}}}',
     b'{"required":7,"properties":{"a":{"anyOf":[]}}}', b'{"properties":{"a":{"enum":7,"type":{}}},"$defs":[]}'],
)  # fmt: skip
def test_a_schema_that_somebody_wrote_by_hand_breaks_no_form(schema: bytes) -> None:
    fields = form_fields(schema)
    assert isinstance(json.loads(example_text(schema)), dict)
    assert json.loads(json_text(fields, {})) == {}
