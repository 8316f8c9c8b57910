"""The values of a limit's key: how they stand in Redis keys, and how people read and write them."""

import contextlib
import hashlib
from typing import Any
from urllib.parse import quote, unquote

from stepstream.bus.values import codec

_LONGEST = 200


def stored_key(value: Any) -> str:
    """Return a key's value as a part of a Redis key: text as it is, the rest as `=` and its JSON, the long as a hash.

    Percent-encoding leaves no `=` and no `#`, so values of different types share no key: 1 is `=1`, "1" is `1`.
    """
    mark, text = ("", value) if isinstance(value, str) else ("=", _json(value))
    coded = mark + quote(text, safe="/")
    return coded if len(coded) <= _LONGEST else f"#{hashlib.sha256((mark + text).encode()).hexdigest()}"


def _json(value: Any) -> str:
    try:
        return codec.canonical(value).decode()
    except codec.NotJson:  # CEL computes numbers that JSON has not; or it is nested too deep to be compared
        return type(value).__name__


def shown_key(stored: str) -> str:
    """Return a stored key's value as people read it: the text, or the JSON, that the event has; a long one's hash."""
    return unquote(stored.removeprefix("="))


def keys_like(text: str) -> tuple[str, ...]:
    """Return how a value may be stored that people write so: as text and, where it reads as JSON, as that value."""
    if text.startswith("#"):  # as it is shown
        return (text,)
    found = [stored_key(text)]
    with contextlib.suppress(ValueError):
        value = codec.decode(text.encode())
        found += [] if isinstance(value, str) else [stored_key(value)]
    return tuple(found)
