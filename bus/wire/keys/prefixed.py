"""What every key of this installation begins with, and how names stand in keys."""

from collections.abc import Callable
from functools import lru_cache
from urllib.parse import quote

from stepstream.bus.errors import ConfigError

Key = tuple[Callable[..., str], tuple[str, ...]]
"""A function that makes a key, with stand-ins for its arguments."""

_prefix = "bus"
_is_fixed = False


def use_prefix(prefix: str) -> None:
    """Let all keys of this process begin with a prefix; ConfigError when they begin with another already."""
    global _prefix, _is_fixed
    if _is_fixed and prefix != _prefix:
        raise ConfigError(
            f"this process uses keys that begin with {_prefix!r}, and is told to use {prefix!r}: "
            "BUS_PREFIX is one for a whole process"
        )
    _prefix, _is_fixed = prefix, True


def prefix() -> str:
    """Return what every key of this process begins with, without the colon."""
    return _prefix


def pattern() -> str:
    """Return the pattern of every key of this installation, for SCAN and ACLs."""
    return f"{_prefix}:*"


@lru_cache(maxsize=4_096)  # also of ids and names that strangers choose
def coded(name: str) -> str:
    """Return a name as it stands in keys."""
    return quote(name, safe="/")
