"""Codec: values to JSON and back. The only module that imports msgspec.json; all stored and sent JSON is encoded here.

A step's result goes through JSON before the function sees it, the first time too, and is converted to the callable's
return annotation. So a replay never changes a type.
"""

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import lru_cache
from math import isfinite
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints
from weakref import WeakKeyDictionary

import msgspec
import msgspec.inspect
from msgspec import Raw, json

from stepstream.bus.values.payload import Misfit, dumped, is_model, validated

T = TypeVar("T")


class NotJson(TypeError):
    """A value that JSON cannot hold. `path` says where (`scores[2].mean`); empty for the value itself or if unknown."""

    def __init__(self, reason: str, path: str = "") -> None:
        self.reason = reason
        self.path = path
        super().__init__(f"{path}: {reason}" if path else reason)


def _plain(value: Any) -> Any:
    """Return a value the encoder does not know as one it does: a Pydantic model, a subclass of float or str."""
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str(value)
    if is_model(cast("type[Any]", type(value))):
        return dumped(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


encoder = json.Encoder(decimal_format="string", enc_hook=_plain)
_ordered = json.Encoder(order="deterministic", decimal_format="string", enc_hook=_plain)
_any = json.Decoder()
_decoders: dict[Any, json.Decoder[Any]] = {}
_returns: "WeakKeyDictionary[Callable[..., Any], Any]" = WeakKeyDictionary()


def encode(value: object) -> bytes:
    """Return a value as JSON; NotJson, a TypeError, for what JSON cannot hold, including NaN and the infinities."""
    try:
        data = encoder.encode(value)
    except (OverflowError, RecursionError, TypeError, ValueError) as error:
        raise NotJson(str(error)) from error
    # The encoder writes null for NaN and the infinities: where it wrote no null, there were none.
    if b"null" in data and value is not None:
        _refuse_unfinite(value)
    return data


def _refuse_unfinite(value: object) -> None:
    """Refuse NaN and the infinities anywhere in a value; the error's path has the names that the JSON would have."""
    plain = msgspec.to_builtins(value, str_keys=True, enc_hook=_looked_into)
    parts: list[Any] = [plain]
    for at in parts:  # the list grows while it is walked
        kind = cast("type[Any]", type(at))
        if kind is dict:
            parts.extend(at.values())
        elif kind is list or kind is tuple:
            parts.extend(at)
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
    return None if isinstance(value, Raw) else _plain(value)  # Raw is JSON already, encoded here or decoded later


def text(raw: bytes) -> str:
    """Return bytes as text; bytes that are not UTF-8 (stored by hand) become U+FFFD instead of an error."""
    return raw.decode(errors="replace")


def canonical(value: object) -> bytes:
    """Return plain values as canonical JSON: the same text for equal values, and for no others.

    Numbers compare as numbers, however they were written (1 and 1.0), and exactly; the order of an object's names does
    not matter. Values that are compared, or become part of a key, go through here. NotJson for what JSON cannot hold.
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
    """Return the value of a JSON text; msgspec.DecodeError when it is not JSON, or nested too deeply."""
    try:
        return _any.decode(raw)
    except (RecursionError, UnicodeDecodeError) as error:
        raise _unreadable(error) from None


_MOST = 2**63


def whole(raw: bytes) -> int:
    """Return a stored number without its fraction, that of a score too; 0 for what is none (written by hand)."""
    try:
        number = int(raw) if raw.lstrip(b"-").isdigit() else int(float(raw))
    except (ValueError, OverflowError):  # no number; infinite, or of thousands of digits
        return 0
    return number if -_MOST < number < _MOST else 0


def decode_as(raw: bytes | str | Raw, wanted: Any) -> Any:
    """Return the value of a JSON text as a type; msgspec.ValidationError (with the path) if it does not fit."""
    decoder = _decoders.get(wanted)
    if decoder is None:
        decoder = _decoders[wanted] = _decoder(wanted)
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise _with_whole_path(error) from None
    except (RecursionError, UnicodeDecodeError) as error:
        raise _unreadable(error) from None


def stored_as(raw: bytes | None, wanted: type[T]) -> T | None:
    """Return what is stored as a type; None where nothing is, or somebody has written by hand what is none.

    For readers to whom both are the same: it hides nothing else, and the next who writes replaces it.
    """
    try:
        return decode_as(raw, wanted) if raw else None
    except msgspec.DecodeError:
        return None


def reader_of(wanted: Any) -> Callable[[bytes], Any]:
    """Return what decodes JSON as a type, which its owner keeps: for types that are made while the process runs.

    It raises what msgspec does, and RecursionError and UnicodeDecodeError for what is nested too deep or is no UTF-8.
    """
    return _decoder(wanted).decode


def misfit(raw: bytes | str | Raw, wanted: Any) -> msgspec.DecodeError | None:
    """Return why JSON does not fit a type; None when it does, or when nothing can be read as that type."""
    try:
        decode_as(raw, wanted)
    except msgspec.DecodeError as error:
        return error
    except (NameError, TypeError):  # an annotation that names what is not there, a union that nobody can tell apart
        return None
    return None


def _decoder(wanted: Any) -> json.Decoder[Any]:
    """Return what reads JSON as a type; TypeError for types that JSON cannot be read as."""
    return json.Decoder(wanted, dec_hook=_of_foreign_type)


def _of_foreign_type(kind: type[Any], value: Any) -> Any:
    """Make of plain values what the decoder does not know: a Pydantic model; it refuses what is still no `kind`."""
    return validated(kind, encoder.encode(value)) if is_model(kind) else value


def _with_whole_path(error: msgspec.ValidationError) -> msgspec.ValidationError:
    """Return the error of a field inside a Pydantic model with the path of both: to the model, and in it."""
    cause = error.__cause__
    if not isinstance(cause, Misfit) or not cause.path:
        return error
    _, _, outer = str(error).partition(" - at `$")
    return msgspec.ValidationError(f"{cause.reason} - at `${outer.rstrip('`')}{cause.path}`")


def _unreadable(error: Exception) -> msgspec.DecodeError:
    """Return the decoder's other errors as a DecodeError, so that callers have one kind to expect."""
    deep = isinstance(error, RecursionError)
    return msgspec.DecodeError("JSON is nested too deep to be read" if deep else f"JSON is not UTF-8: {error}")


def return_type(target: Callable[..., Any]) -> Any:
    """Return the annotated return type of a step's callable; Any when it has none that JSON can be decoded as."""
    inner: Any = getattr(target, "__func__", getattr(target, "func", target))
    try:
        known = _returns.get(inner, _returns)
    except TypeError:  # a builtin: it has no annotation and takes no weak reference
        return Any
    if known is not _returns:
        return known
    wanted: Any = inner if isinstance(inner, type) else _annotated_return(inner)
    if wanted is None:
        wanted = type(None)
    try:
        _decoder(wanted)
    except TypeError:
        wanted = Any
    _returns[inner] = wanted
    return wanted


def _annotated_return(inner: Any) -> Any:
    called = inner if hasattr(inner, "__code__") else inner.__class__.__call__  # of an object that is called
    try:
        wanted = get_type_hints(called).get("return", Any)
    except (NameError, TypeError, AttributeError):
        return Any
    if get_origin(wanted) in (Awaitable, Coroutine):  # it is awaited
        return get_args(wanted)[-1]
    return wanted


_PLAIN = (dict, list, str, int, float, bool, type(None))


@lru_cache(maxsize=4_096)
def never_from_json(wanted: Any) -> str:
    """Return the name of a class that a type has in it and no JSON can be read as; empty when there is none."""
    try:
        custom = _custom(msgspec.inspect.type_info(wanted))
        return "" if custom is None else custom.__qualname__
    except (NameError, TypeError, AttributeError):  # nobody can tell: it is tried
        return ""


def _custom(info: msgspec.inspect.Type) -> type[Any] | None:
    """Return a class of which no plain value is, that a value of a type must have somewhere; None for none."""
    if isinstance(info, msgspec.inspect.CustomType):
        return None if is_model(info.cls) or any(issubclass(one, info.cls) for one in _PLAIN) else info.cls
    inner: list[msgspec.inspect.Type] = []
    if isinstance(info, msgspec.inspect.CollectionType):
        inner = [info.item_type]
    elif isinstance(info, msgspec.inspect.TupleType):
        inner = list(info.item_types)
    elif isinstance(info, msgspec.inspect.DictType):
        inner = [info.key_type, info.value_type]
    elif isinstance(info, msgspec.inspect.UnionType):
        inner = list(info.types)
    return next((found for one in inner if (found := _custom(one)) is not None), None)


def schemas(kinds: Iterable[Any], ref_template: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the JSON Schema of each type, and those of the classes in them, which the first refer to by a template."""
    found, components = json.schema_components(kinds, ref_template=ref_template)
    return list(found), components


def pretty(raw: bytes | str) -> str:
    """Return JSON indented for people; text that is not JSON, or nested too deeply, is returned unchanged."""
    try:
        return json.format(raw if isinstance(raw, bytes) else raw.encode(), indent=2).decode()
    except (msgspec.DecodeError, RecursionError):
        return raw if isinstance(raw, str) else raw.decode(errors="replace")
