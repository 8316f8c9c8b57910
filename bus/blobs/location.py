"""Location: the URL of a store as BUS_BLOBS_URL has it, checked. It holds no secret: one with a password is refused."""

import re
from urllib.parse import unquote, urlsplit

import msgspec

from stepstream.bus.errors import ConfigError

SCHEMES = ("file", "s3")
LEAST_ABOVE = 4_096
"""Bytes: below that to ask another store costs more than Redis' memory."""
_EXAMPLES = "file:///var/lib/stepstream or s3://bucket/prefix"
_SHOWN = 200


class Location(msgspec.Struct, frozen=True):
    """Where blobs are: `bucket` is empty for a folder, whose absolute path is `path`; of a bucket it is the prefix."""

    scheme: str
    bucket: str
    path: str
    url: str


def location(url: str, variable: str = "BUS_BLOBS_URL") -> Location:
    """Return where a URL leads; ConfigError, which shows no password, for one that is no store's."""
    if "@" in url or "?" in url or "#" in url:
        raise ConfigError(
            f"{variable} must be a URL without user, password and parameters, like {_EXAMPLES}; it is not shown, for "
            "it may hold a secret. Credentials stand in the environment, as AWS's tools read them"
        )
    got = f"got {url[:_SHOWN]!r}"
    try:
        parts = urlsplit(url)
        path = unquote(parts.path, errors="strict")
    except ValueError as error:
        raise ConfigError(f"{variable} {url[:_SHOWN]!r} is no URL: {error}; expected: {_EXAMPLES}") from None
    if parts.scheme not in SCHEMES or not path.isprintable():
        raise ConfigError(f"{variable} must be {_EXAMPLES}; {got}")
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not path.startswith("/") or not path.strip("/"):
            raise ConfigError(f"{variable} must name a folder, as file:///var/lib/stepstream does; {got}")
        return Location("file", "", path, url)
    is_prefix = re.fullmatch(r"(/[A-Za-z0-9][A-Za-z0-9._=-]*)*/?", path)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", parts.netloc) or not is_prefix:
        raise ConfigError(f"{variable} must name a bucket, as s3://bucket/prefix does; {got}")
    return Location(parts.scheme, parts.netloc, path.strip("/"), url)


def check_above(bound: int, variable: str = "BUS_BLOBS_ABOVE") -> None:
    """Raise ConfigError for a bound, in bytes, below which a blob is not worth its round trip."""
    if bound < LEAST_ABOVE:
        raise ConfigError(f"{variable} must be at least {LEAST_ABOVE} (bytes, 4 KiB), got {bound}")
