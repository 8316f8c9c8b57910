"""Bytes and values: the only room that imports msgspec.json.

What a step returns passes through JSON before the function sees it, the first time too, and is converted to the
callable's return annotation: so a replay never changes a type.
"""

from collections.abc import Callable
from typing import Any, get_type_hints
from weakref import WeakKeyDictionary

import msgspec
from msgspec import Raw, json

encoder = json.Encoder(decimal_format="string")
_any = json.Decoder()
_decoders: dict[Any, json.Decoder[Any]] = {}
_returns: "WeakKeyDictionary[Callable[..., Any], Any]" = WeakKeyDictionary()


def encode(value: object) -> bytes:
    """Return a value as JSON; TypeError (with the value's type) for what JSON cannot hold."""
    try:
        return encoder.encode(value)
    except (OverflowError, ValueError, RecursionError) as error:
        raise TypeError(str(error)) from error


def decode(raw: bytes | str | Raw) -> Any:
    """Return the value of a JSON text."""
    return _any.decode(raw)


def decode_as(raw: bytes | str | Raw, wanted: Any) -> Any:
    """Return the value of a JSON text as a type; msgspec.ValidationError (with the path) if it does not fit."""
    decoder = _decoders.get(wanted)
    if decoder is None:
        decoder = _decoders[wanted] = json.Decoder(wanted)
    return decoder.decode(raw)


def return_type(target: Callable[..., Any]) -> Any:
    """Return the type a step's callable says it returns; Any when it says nothing."""
    inner: Any = getattr(target, "__func__", getattr(target, "func", target))
    try:
        known = _returns.get(inner, _returns)
    except TypeError:  # no weak reference to it (a builtin): nothing to remember, nothing annotated
        return Any
    if known is not _returns:
        return known
    try:
        wanted = get_type_hints(inner).get("return", Any)
    except (NameError, TypeError, AttributeError):
        wanted = Any
    if wanted is None:
        wanted = type(None)
    try:
        json.Decoder(wanted)
    except TypeError:
        wanted = Any
    _returns[inner] = wanted
    return wanted


def pretty(raw: bytes | str) -> str:
    """Return JSON indented for people; what is no JSON comes back as it is."""
    try:
        return json.format(raw if isinstance(raw, bytes) else raw.encode(), indent=2).decode()
    except msgspec.DecodeError:
        return raw if isinstance(raw, str) else raw.decode(errors="replace")
