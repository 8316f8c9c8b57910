"""Arguments: the data of an event or a call as people write it at the terminal, `orderId=o1` or JSON."""

import json
from typing import Any

from stepstream.bus.errors import ConfigError, EventInvalid


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


def _value(text: str) -> Any:
    """Numbers, true, false and null are themselves; the rest is text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
