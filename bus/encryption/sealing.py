"""Sealing: data of events and results of steps and runs that Redis cannot read, by a codec of the user's.

Sealed data is `{"$sealed":"<base64>"}` in place of the JSON it was made of, on its own or inside of other JSON: scripts
hand it on as any other value. One codec seals and opens for a whole process (BUS_CODEC); without one nothing is sealed.

Nobody's own data may have a field of that name in it: what is opened is never opened again.
"""

import base64
import re
from collections.abc import Callable

import msgspec

from stepstream.bus.blobs.reference import BLOB_MARK, in_words
from stepstream.bus.encryption.users_codec import codec_in_use, has_codec
from stepstream.bus.errors import StoreError
from stepstream.bus.values import codec

_MARK = b'{"$sealed":"'
_SEALED = re.compile(rb'\{"\$sealed":"([A-Za-z0-9+/=]*)"\}')


def _field(name: bytes) -> re.Pattern[bytes]:
    spelt = b"".join(rb"(?:%b|\\u00(?i:%02x))" % (re.escape(b"%c" % sign), sign) for sign in name)
    return re.compile(rb'(?<!\\)"' + spelt + rb'"\s*:')


_FIELDS = {name: _field(name) for name in (b"$sealed", b"$blob")}
"""The marks' fields in any spelling of JSON; the quote of a key never has a backslash before it."""


class CannotOpen(StoreError):
    """Data is sealed, and the codec of this process, if it has one, cannot open it. A run that needs it waits."""

    code = "sealed"
    status = 409


class CannotSeal(StoreError):
    """The codec of this process failed at data that it was to seal; nothing was stored."""

    code = "not_sealed"
    status = 503


class Reserved(ValueError):
    """Somebody's data has the mark in it of what stands in place of data."""

    def __init__(self, name: str) -> None:
        super().__init__(f"has a field {name}, which marks data that is encrypted, or kept elsewhere")


def is_sealed(data: bytes) -> bool:
    """Whether JSON has sealed data in it."""
    return _MARK in data


def refuse_mark(data: bytes) -> bytes:
    """Return somebody's data, JSON as it came; Reserved where it has a field of the mark's name, however it is spelled.

    Any such field, for what is decoded and written again has neither its spaces and escapes nor its place any more.
    """
    if b"$" in data or b"\\u00" in data:  # each step's result is looked at, and hardly any has one of these
        for name, field in _FIELDS.items():
            if field.search(data):
                raise Reserved(name.decode())
    return data


def sealed(data: bytes) -> bytes:
    """Return data, or a result, as it is stored (JSON); CannotSeal when the codec fails.

    What is sealed already, or made of it by the engine, stays as it is; null tells nothing.
    """
    if not has_codec() or _MARK in data or BLOB_MARK in data or data == b"null":
        return data
    return sealed_text(data)


def sealed_text(data: bytes) -> bytes:
    """Return what one process tells another by way of Redis, any bytes, sealed as a whole; CannotSeal."""
    own, named = codec_in_use()
    if own is None or not data:
        return data
    try:
        made = own.encode(data)
        return b'%b%b"}' % (_MARK, base64.b64encode(made))
    except Exception as error:
        raise CannotSeal(f"the codec {named} failed: {type(error).__name__}: {error}") from error


def opened(data: bytes) -> bytes:
    """Return JSON with all that is sealed in it opened; CannotOpen, with the way out, where that is not possible."""
    return _SEALED.sub(_open, data) if _MARK in data else data


def opened_raw(data: msgspec.Raw) -> msgspec.Raw:
    """Return the same of JSON that nobody has decoded yet."""
    plain = bytes(data)
    return msgspec.Raw(opened(plain)) if _MARK in plain else data


def opened_text(data: bytes) -> bytes:
    """Return what `sealed_text` was given, in a process with a codec or without one; CannotOpen."""
    found = _SEALED.fullmatch(data)
    return _decoded(found) if found else data


def shown(data: bytes) -> bytes:
    """Return JSON as people are shown it: in place of what is not here, or cannot be opened, a text that says so."""
    data = in_words(data)
    return _SEALED.sub(_open_or_tell, data) if _MARK in data else data


def _open(found: re.Match[bytes]) -> bytes:
    return _decoded(found, codec.decode)


def _decoded(found: re.Match[bytes], check: Callable[[bytes], object] = bytes) -> bytes:
    own, named = codec_in_use()
    if own is None:
        raise CannotOpen(
            "it is encrypted, and this process has no codec: set BUS_CODEC to the one that the others have"
        )
    try:
        plain = own.decode(base64.b64decode(found[1], validate=True))
        check(plain)
    except Exception as error:
        why = ": ".join(filter(None, (type(error).__name__, str(error))))
        raise CannotOpen(
            f"the codec {named} cannot open what is encrypted ({why}): give it the key that sealed this as well"
        ) from error
    return plain


def _open_or_tell(found: re.Match[bytes]) -> bytes:
    try:
        return _open(found)
    except CannotOpen:
        size = len(found[1]) * 3 // 4
        why = "not with a key of the codec here" if codec_in_use()[0] else "this process has no BUS_CODEC"
        return codec.encode(f"(encrypted, {size} bytes; {why})")


def result(value: object) -> bytes:
    """Return what a step or a function has returned as JSON; NotJson, also where it has the mark of sealed data."""
    data = codec.encode(value)
    try:
        return refuse_mark(data)
    except Reserved as error:
        raise codec.NotJson(f"it {error}") from None
