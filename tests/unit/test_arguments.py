"""Data as it is typed at the terminal: a number where text is wanted."""

from typing import Any

import msgspec
import pytest

from stepstream.bus.errors import EventInvalid
from stepstream.bus.event import invalid
from stepstream.bus.values import codec
from stepstream.bus.values.arguments import data_of, sent_as_fits


class Returned(msgspec.Struct):
    order: str
    user: str = ""
    cents: int = 0


async def send(data: dict[str, Any]) -> dict[str, Any]:
    try:
        codec.decode_as(codec.encode(data), Returned)
    except msgspec.ValidationError as error:
        raise invalid(error, "data") from None
    return data


async def test_digits_where_the_type_wants_text_are_text() -> None:
    words = ["order=1001", "user=7", "cents=5"]
    assert await sent_as_fits(words, data_of(words), send) == {"order": "1001", "user": "7", "cents": 5}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["order=o1", "cents=1.5"], "data.cents: Expected `int`, got `float`"),
        (["order=o1", "cents=many"], "data.cents: Expected `int`, got `str`"),
        (['{"order": 1001}'], "data.order: Expected `str`, got `int`"),
        (["cents=1"], "data.order: is missing"),
    ],
)
async def test_what_fits_in_no_way_is_refused_as_it_was_typed(words: list[str], told: str) -> None:
    with pytest.raises(EventInvalid) as refused:
        await sent_as_fits(words, data_of(words), send)
    assert str(refused.value) == told
