"""Bytes and values: the only room that imports msgspec.json, and the one encoder of all that is stored or answered.

What a step returns passes through JSON before the function sees it, the first time too, and is converted to the
callable's return annotation: so a replay never changes a type.
"""

from collections.abc import Callable
from math import isfinite
from typing import Any, cast, get_type_hints
from weakref import WeakKeyDictionary

import msgspec
from msgspec import Raw, json


class NotJson(TypeError):
    """A value that JSON cannot hold. `path` says where in it (`scores[2].mean`); empty for the whole or unknown."""

    def __init__(self, reason: str, path: str = "") -> None:
        self.reason = reason
        self.path = path
        super().__init__(f"{path}: {reason}" if path else reason)


def _plain(value: Any) -> Any:
    """Return what the encoder does not know as something it does: a float of the author's own class (numpy's, too)."""
    if isinstance(value, float):
        return float(value)
    raise TypeError(f"{type(value).__name__} is nothing that JSON has")


encoder = json.Encoder(decimal_format="string", enc_hook=_plain)
_ordered = json.Encoder(order="deterministic", decimal_format="string", enc_hook=_plain)
_any = json.Decoder()
_decoders: dict[Any, json.Decoder[Any]] = {}
_returns: "WeakKeyDictionary[Callable[..., Any], Any]" = WeakKeyDictionary()


def encode(value: object) -> bytes:
    """Return a value as JSON; NotJson, a TypeError, for what JSON cannot hold, NaN and the infinities among it."""
    try:
        data = encoder.encode(value)
    except (OverflowError, RecursionError, TypeError, ValueError) as error:
        raise NotJson(str(error)) from error
    # The encoder writes null for a number that is none; where no null was written, there was none.
    if b"null" in data and value is not None:
        _refuse_unfinite(value)
    return data


def _refuse_unfinite(value: object) -> None:
    """Refuse NaN and the infinities wherever they stand; the path has the names that JSON would have."""
    plain = msgspec.to_builtins(value, str_keys=True, enc_hook=_looked_into)
    found: list[Any] = [plain]
    for at in found:  # which grows while we go
        kind = cast("type[Any]", type(at))
        if kind is dict:
            found.extend(at.values())
        elif kind is list or kind is tuple:
            found.extend(at)
        elif kind is float and not isfinite(at):
            raise NotJson(f"must be a finite number, got {at}", _path_to_unfinite(plain))


def _path_to_unfinite(plain: Any) -> str:
    rest: list[tuple[Any, str]] = [(plain, "")]
    while rest:
        at, path = rest.pop()
        if isinstance(at, dict):
            rest += [(inner, f"{path}.{name}") for name, inner in cast("dict[str, Any]", at).items()]
        elif isinstance(at, list | tuple):
            rest += [(inner, f"{path}[{n}]") for n, inner in enumerate(cast("list[Any]", at))]
        elif isinstance(at, float) and not isfinite(at):
            return path.removeprefix(".")
    return ""


def _looked_into(value: Any) -> Any:
    return None if isinstance(value, Raw) else _plain(value)  # what is JSON already has passed here, or will be decoded


def text(raw: bytes) -> str:
    """Return text; what somebody stored by hand and is no UTF-8 is shown with U+FFFD, and stops nobody."""
    return raw.decode(errors="replace")


def canonical(value: object) -> bytes:
    """Return plain values as JSON that is the same for equal values, and for no others.

    Numbers are equal as numbers, however they were written (1 and 1.0), and exact; the order of an object's names does
    not matter. What is compared or becomes a key goes through here. NotJson for what JSON cannot hold.
    """
    try:
        return _ordered.encode(value if isinstance(value, str) else _by_value(value))
    except (OverflowError, RecursionError, TypeError, ValueError) as error:
        raise NotJson(str(error)) from error


def _by_value(value: Any) -> Any:
    if isinstance(value, float):
        if not isfinite(value):
            raise NotJson(f"must be a finite number, got {value}")
        return int(value) if value.is_integer() else value
    if isinstance(value, dict):
        return {name: _by_value(inner) for name, inner in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_by_value(inner) for inner in cast("list[Any]", value)]
    return value


def decode(raw: bytes | str | Raw) -> Any:
    """Return the value of a JSON text; msgspec.DecodeError when it is none, or nested too deep to be read."""
    try:
        return _any.decode(raw)
    except (RecursionError, UnicodeDecodeError) as error:
        raise _unreadable(error) from None


def decode_as(raw: bytes | str | Raw, wanted: Any) -> Any:
    """Return the value of a JSON text as a type; msgspec.ValidationError (with the path) if it does not fit."""
    decoder = _decoders.get(wanted)
    if decoder is None:
        decoder = _decoders[wanted] = json.Decoder(wanted)
    try:
        return decoder.decode(raw)
    except (RecursionError, UnicodeDecodeError) as error:
        raise _unreadable(error) from None


def _unreadable(error: Exception) -> msgspec.DecodeError:
    """Return as a DecodeError what the decoder raises beside it, so that readers have one thing to expect."""
    deep = isinstance(error, RecursionError)
    return msgspec.DecodeError("JSON is nested too deep to be read" if deep else f"JSON is not UTF-8: {error}")


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
    """Return JSON indented for people; what is no JSON, or too deep, comes back as it is."""
    try:
        return json.format(raw if isinstance(raw, bytes) else raw.encode(), indent=2).decode()
    except (msgspec.DecodeError, RecursionError):
        return raw if isinstance(raw, str) else raw.decode(errors="replace")
