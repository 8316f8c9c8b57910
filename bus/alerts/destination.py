"""Destination: where alerts are sent: the address of a webhook, or a command. Both hold secrets: neither is shown."""

import shlex
from collections.abc import Sequence
from urllib.parse import urlsplit

from stepstream.bus.errors import ConfigError

FORMATS = ("auto", "json", "slack")
_SLACK = "hooks.slack.com"


def check_url(url: str, variable: str) -> None:
    """Raise ConfigError, which does not show it, for what is no address of http or https."""
    try:
        parts = urlsplit(url)
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_one = False
    if not is_one or not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigError(
            f"{variable} must be an address like https://example.com/path; what it is set to is not shown"
        )


def shown(url: str) -> str:
    """Return an address for people: without its path, query and password, which may be what lets one in."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}/…"


def is_slack(url: str, form: str) -> bool:
    """Whether an address is sent what Slack understands: `form` says so, or (`auto`) it is Slack's."""
    return form == "slack" or (form == "auto" and urlsplit(url).hostname == _SLACK)


def words_of(command: str, variable: str) -> Sequence[str]:
    """Return a command's words, as a shell splits them; ConfigError, which does not show it, where it could not."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"{variable} is no command: {error}; quote its words as for a shell") from None
    if command and not words:
        raise ConfigError(f"{variable} is no command: it has no words")
    return words
