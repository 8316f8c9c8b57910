"""Texts of keys: which texts of the settings may be keys. What is refused is told by its variable, and not shown."""

from collections.abc import Sequence

from stepstream.bus.errors import ConfigError
from stepstream.bus.trust.roles import Token
from stepstream.bus.trust.signing import check_key

_LEAST_SESSION_KEY = 32


def check_signing_keys(key: str, fallback: str) -> None:
    """Raise ConfigError for a text that is no signing key, and for a fallback of none."""
    for variable, text in (("BUS_SIGNING_KEY", key), ("BUS_SIGNING_KEY_FALLBACK", fallback)):
        if text:
            check_key(text, variable)
    if fallback and not key:
        raise ConfigError("BUS_SIGNING_KEY_FALLBACK is set without BUS_SIGNING_KEY: set that, or take it away")


def check_session_key(key: str) -> None:
    """Raise ConfigError for a session key that could be guessed; empty: there is none."""
    if key and (len(key) < _LEAST_SESSION_KEY or not key.isascii()):
        raise ConfigError(
            f"BUS_SESSION_KEY must have at least {_LEAST_SESSION_KEY} ASCII characters; "
            "make one with: openssl rand -hex 32"
        )


def check_event_keys(keys: Sequence[str]) -> None:
    """Raise ConfigError for an event key that nobody could show."""
    if not all(key and "/" not in key for key in keys):
        raise ConfigError("BUS_EVENT_KEYS has a key that is empty or has a /, which the path /e/{key} cannot hold")


def check_tokens(tokens: Sequence[Token]) -> None:
    """Raise ConfigError for a token that two have."""
    if len({one.secret for one in tokens}) < len(tokens):
        raise ConfigError("BUS_API_TOKENS has a token twice: whose it is, and what it may do, must be plain")
