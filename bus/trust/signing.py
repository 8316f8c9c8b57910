"""Signing: the key that a server and its applications share, and what is signed with it.

The key is written `signkey-<env>-<hex>`, with or without what stands before the hex digits. A body is signed as the
canonical JSON of RFC 8785, followed by the time in seconds; who knows the key sends it as it is, or its hash.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from typing import Any, cast
from urllib.parse import parse_qs

import msgspec
import rfc8785
from msgspec import Raw

from stepstream.bus.errors import BusError, ConfigError
from stepstream.bus.values import codec

HEADER = "x-inngest-signature"
FRESH_S = 300
"""How far the time of a signature may be from ours, s: what somebody has overheard is soon of no use."""

_PREFIX = re.compile(r"signkey-\w+-", re.ASCII)
_LEAST_DIGITS = 32
_EXACT = 2**53 - 1
_MOST_PARTS = 8
_LONG_NUMBER = re.compile(rb"[0-9]{16}")


class SignatureInvalid(BusError):
    """A request that is not signed, or with another key, or at another time; the message says which."""

    code = "signature"
    status = 401


def check_key(key: str, variable: str) -> None:
    """Raise ConfigError, which does not show it, for text that is no signing key."""
    digits = _secret(key)
    if len(digits) >= _LEAST_DIGITS and len(digits) % 2 == 0 and re.fullmatch(r"[0-9a-fA-F]+", digits):
        return
    raise ConfigError(
        f"{variable} is no signing key: it must be an even number of hex digits, at least {_LEAST_DIGITS}, or "
        "signkey-<env>- and those; make one with: openssl rand -hex 32"
    )


def is_one_of(given: str, keys: Sequence[str]) -> bool:
    """Whether what a caller says is one of the keys, as it is or hashed."""
    return is_any(_secret(given), (form for key in keys for form in (_secret(key), hashed(key))))


def is_any(given: str, known: Iterable[str]) -> bool:
    """Whether a text is one of the known ones. How long that takes tells nothing of them."""
    said = given.encode()  # compare_digest raises TypeError for text that is not ASCII
    return any(hmac.compare_digest(said, one.encode()) for one in known)


def hashed(key: str) -> str:
    """Return what an application says in place of its key."""
    return hashlib.sha256(bytes.fromhex(_secret(key))).hexdigest()


def signed(body: bytes, key: str, now_ms: int) -> tuple[bytes, dict[str, str]]:
    """Return the body to send and the header that signs it at this time.

    It is sent in its canonical form, which is what some receivers take the signature of; others make that form
    themselves. That form has no integers beyond 2^53: with one of those the body is sent as it is, so that nothing is
    rounded for receivers that know larger ones. NotJson for a body that is no JSON.
    """
    form, is_exact = canonical(body)
    at = str(now_ms // 1_000)
    return form if is_exact else body, {HEADER: f"t={at}&s={_mac(form, key, at)}"}


def verify(body: bytes, signature: str | None, keys: Sequence[str], now_ms: int) -> None:
    """Raise SignatureInvalid unless a body was signed with one of the keys within the last, or next, five minutes."""
    if not signature:
        raise SignatureInvalid(f"the request is not signed: it has no header {HEADER}")
    parts = parse_qs(signature, max_num_fields=_MOST_PARTS) if signature.count("&") < _MOST_PARTS else {}
    # One time and one signature: of two, a proxy could look at one and we at the other.
    at, mac = ("".join(parts[name]) if len(parts.get(name, ())) == 1 else "" for name in ("t", "s"))
    if not mac or not (at.isascii() and at.isdecimal() and len(at) <= 15):
        raise SignatureInvalid(f"the header {HEADER} must be t=<seconds>&s=<hex>, each once")
    apart = abs(now_ms // 1_000 - int(at))
    if apart > FRESH_S:
        raise SignatureInvalid(f"the signature is {apart} s from now, at most {FRESH_S}: is a clock wrong?")
    if _is_signed(body, mac, keys, at):
        return
    # Only with such a number is what was sent another text than what was signed.
    if _LONG_NUMBER.search(body):
        try:
            form, _ = canonical(body)
        except codec.NotJson:
            form = body
        if _is_signed(form, mac, keys, at):
            return
    raise SignatureInvalid("the request is signed with another key: both sides must have the same signing key")


def canonical(body: bytes) -> tuple[bytes, bool]:
    """Return a JSON text in the form of RFC 8785, and whether that has all numbers exactly. NotJson for other text.

    The package rfc8785 writes the numbers. The rest is the encoder's, for whole bodies it takes five times as long.
    """
    lost: list[int] = []
    try:
        return codec.encoder.encode(_ordered(codec.decode(body), lost)), not lost
    except (OverflowError, RecursionError, TypeError, ValueError, msgspec.DecodeError) as error:
        raise codec.NotJson(f"cannot be signed: {error}") from None


def _ordered(value: Any, lost: list[int]) -> Any:
    """Return a value with names in order and numbers as JavaScript writes them; what that changes is put in `lost`."""
    if isinstance(value, dict):
        inner = cast("dict[str, Any]", value)
        names = sorted(inner) if "".join(inner).isascii() else sorted(inner, key=_utf16)
        return {name: _ordered(inner[name], lost) for name in names}
    if isinstance(value, list):
        return [_ordered(one, lost) for one in cast("list[Any]", value)]
    if isinstance(value, float):
        return Raw(rfc8785.dumps(value))
    if isinstance(value, int) and not -_EXACT <= value <= _EXACT:
        text = rfc8785.dumps(float(value))
        if text != str(value).encode():
            lost.append(value)
        return Raw(text)
    return value


def _utf16(name: str) -> bytes:
    return name.encode("utf-16-be", "surrogatepass")


def _is_signed(form: bytes, mac: str, keys: Sequence[str], at: str) -> bool:
    return is_any(mac, (_mac(form, key, at) for key in keys))


def _mac(form: bytes, key: str, at: str) -> str:
    return hmac.new(_secret(key).encode(), form + at.encode(), hashlib.sha256).hexdigest()


def _secret(key: str) -> str:
    found = _PREFIX.match(key)
    return key[found.end() :] if found else key
