"""The user's codec: what `BUS_CODEC` names, one for a whole process."""

from typing import Any, Protocol, runtime_checkable

from stepstream.bus.errors import ConfigError
from stepstream.bus.process.importing import attribute

_PROBE = b'{"probe":"caf\xc3\xa9"}'


@runtime_checkable
class Codec(Protocol):
    """Makes JSON (bytes) unreadable, and readable again; any error it raises means that it cannot.

    Both are called in the event loop, for up to 4 MiB at a time: a key is fetched before, and not for each call.
    """

    def encode(self, data: bytes) -> bytes:
        """Return data as it is stored: any bytes."""
        ...

    def decode(self, data: bytes) -> bytes:
        """Return what `encode` was given, in this process or another, with this key or one before it."""
        ...


_codec: Codec | None = None
_named: str | None = None


def use_codec(named: str) -> None:
    """Let this process seal and open with the codec that `module:attribute` names; empty: seal nothing.

    ConfigError when there is none of that name, when it does not give back what it was given, or when this process has
    another already.
    """
    global _codec, _named
    if named == _named:
        return
    if _named is not None:
        raise ConfigError(
            f"this process seals with the codec {_named or 'none'!r}, and is told to use {named or 'none'!r}: "
            "BUS_CODEC is one for a whole process"
        )
    _codec = _loaded(named) if named else None
    _named = named


def _loaded(named: str) -> Codec:
    found: Any = attribute(named, "BUS_CODEC")
    if isinstance(found, type) or not isinstance(found, Codec):
        raise ConfigError(
            f"BUS_CODEC {named!r} is {_called(found)}, not a codec: an object with encode(data) and decode(data), "
            "which take and return bytes"
        )
    try:
        given = found.decode(found.encode(_PROBE))
    except Exception as error:
        raise ConfigError(f"BUS_CODEC {named!r} fails: {type(error).__name__}: {error}") from error
    if given != _PROBE:
        raise ConfigError(f"BUS_CODEC {named!r} does not give back what it was given: its decode must undo its encode")
    return found


def _called(found: object) -> str:
    return f"the class {found.__name__}" if isinstance(found, type) else f"of type {type(found).__name__}"


def has_codec() -> bool:
    """Whether this process has a codec: then all that it stores of data and results is sealed."""
    return _codec is not None


def codec_in_use() -> tuple[Codec | None, str]:
    """Return the codec of this process and what names it; None and nothing when it has none."""
    return _codec, _named or ""
