"""Arguments: the data of an event or a call as people write it at the terminal, `orderId=o1` or JSON."""

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from stepstream.bus.errors import ConfigError, EventInvalid

R = TypeVar("R")

HELP = "Its data. A value that reads as JSON is that, the rest is text: n=1, but n='\"1\"' for the text 1."


def data_of(words: list[str]) -> dict[str, Any]:
    """Return the object that command-line words make: each is a JSON object or key=value."""
    data: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if word.lstrip().startswith("{"):
            try:
                value = json.loads(word)
            except json.JSONDecodeError as error:
                raise EventInvalid(f"{word[:60]!r} is not JSON: {error}", field="data") from None
            data.update(value)
        elif equals and key:
            data[key] = _value(text)
        else:
            raise ConfigError(f"{word!r} is neither a JSON object nor key=value")
    return data


def flags_of(words: Sequence[str]) -> dict[str, Any]:
    """Return the object that flags make: `--limit=50 --force` is {"limit": 50, "force": true}."""
    data: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not key:
            raise ConfigError(f"{word!r} is no flag; write --name, or --name=value")
        data[key] = _value(text) if equals else True
    return data


def _value(text: str) -> Any:
    """Numbers, true, false and null are themselves; the rest is text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


async def sent_as_fits(words: Sequence[str], data: dict[str, Any], send: Callable[[dict[str, Any]], Awaitable[R]]) -> R:
    """Return what `send` returns of data; where a field's type refuses `order=1001`, of the text "1001" in its place.

    EventInvalid as it was first, when the text does not fit either.
    """
    try:
        return await send(data)
    except EventInvalid as refused:
        top, _, key = refused.field.partition(".")
        typed = (word.partition("=") for word in words if not word.lstrip().startswith("{"))
        text = {name: text for name, _, text in typed}.get(key)
        if top != "data" or text is None or isinstance(data[key], str):
            raise
        try:
            return await sent_as_fits(words, {**data, key: text}, send)
        except EventInvalid as again:
            raise (refused if again.field == refused.field else again) from None
