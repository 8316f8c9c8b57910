"""Address: where Redis is, parsed from `BUS_REDIS_URL`; the only module that reads that URL or shows it.

An unknown parameter is refused by name, with what to do. No message holds any part of a password: a password with a `/`
in it makes the rest of the URL look like a port or a database, so a URL that cannot be parsed is never repeated.
"""

import difflib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import msgspec

from stepstream.bus.errors import ConfigError

_LATER = {"redis+sentinel": "Sentinel", "redis+cluster": "a cluster"}
_ESCAPE = "in a password write / as %2F, ? as %3F, # as %23, @ as %40 and % as %25"

_TLS_FLAGS = {
    "ssl_ca_certs": "--cacert",
    "ssl_ca_path": "--cacertdir",
    "ssl_certfile": "--cert",
    "ssl_keyfile": "--key",
    "ssl_ciphers": "--tls-ciphers",
}
"""What redis-cli calls the options of TLS."""


class Address(msgspec.Struct, frozen=True):
    """Where Redis is: `shown` may be printed; `options` open a connection, under redis-py's names."""

    kind: Literal["redis", "rediss", "unix"]
    shown: str
    options: dict[str, Any]
    secrets: tuple[str, ...]

    def __repr__(self) -> str:
        """Show it without its secrets."""
        return f"Address({self.shown!r})"

    @property
    def cli(self) -> tuple[str, ...]:
        """The arguments of redis-cli by which it opens the same; it asks for a password, which none of them is."""
        one = self.options
        where = ("-s", one["path"]) if self.kind == "unix" else ("-h", one["host"], "-p", str(one["port"]))
        found = [*where, *(("-n", str(one["db"])) if one.get("db") else ())]
        found += ["--user", one["username"]] if "username" in one else []
        found += ["--askpass"] if "password" in one else []
        if self.kind == "rediss":
            found.append("--tls")
            found += [part for name, flag in _TLS_FLAGS.items() if name in one for part in (flag, one[name])]
            found += ["--insecure"] if one.get("ssl_cert_reqs") == "none" else []
        return tuple(found)

    def hide(self, text: str) -> str:
        """Return text from elsewhere (a server's error) with our secrets replaced by ***."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ConfigError("must be a whole number")
    return int(text)


def _text(text: str) -> str:
    if not text:
        raise ConfigError("is empty")
    return text


def _flag(text: str) -> bool:
    if text.lower() not in {"true", "yes", "1", "false", "no", "0"}:
        raise ConfigError("must be true or false")
    return text.lower() in {"true", "yes", "1"}


def _path(text: str) -> str:
    if not Path(text).exists():
        raise ConfigError(f"there is no {text!r} here")
    return text


def _requirement(text: str) -> str:
    if text not in {"required", "optional", "none"}:
        raise ConfigError("must be required, optional or none")
    return text


def _protocol(text: str) -> int:
    if text != "2":
        raise ConfigError("Stepstream speaks RESP 2 with every server: leave it out")
    return 2


_PARAMETERS: dict[str, Callable[[str], Any]] = {
    "db": _number,
    "username": _text,
    "password": _text,
    "protocol": _protocol,
    "ssl_ca_certs": _path,
    "ssl_ca_path": _path,
    "ssl_certfile": _path,
    "ssl_keyfile": _path,
    "ssl_password": _text,
    "ssl_cert_reqs": _requirement,
    "ssl_check_hostname": _flag,
    "ssl_ciphers": _text,
}
_ELSEWHERE = {
    **dict.fromkeys(("socket_timeout", "socket_connect_timeout", "timeout"), "set BUS_TIMEOUT instead"),
    "client_name": "connections are named after their process in CLIENT LIST: leave it out",
    **dict.fromkeys(
        ("retry_on_timeout", "retry_on_error", "health_check_interval", "max_connections", "socket_keepalive",
         "socket_read_size", "decode_responses", "encoding", "encoding_errors"),
        "Stepstream opens, watches and reads its connections itself: leave it out",
    ),
}  # fmt: skip


def address(url: str) -> Address:
    """Parse a URL: redis://, rediss:// (TLS) or unix:///path. ConfigError names the wrong part and what to write."""
    scheme, separator, _ = url.partition("://")
    if separator and scheme in _LATER:
        raise ConfigError(f"BUS_REDIS_URL: {_LATER[scheme]} is not supported yet: use the URL of a single primary")
    if not separator or scheme not in {"redis", "rediss", "unix"}:
        raise ConfigError("BUS_REDIS_URL must begin with redis://, rediss:// (TLS) or unix://")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError(
            f"BUS_REDIS_URL: host and port cannot be parsed: write redis://user:password@host:6379/0; {_ESCAPE}"
        ) from None
    if parts.fragment or "#" in url:
        raise ConfigError(f"BUS_REDIS_URL holds a '#', which ends a URL; {_ESCAPE}")
    options = _parameters(parts)
    user = unquote(parts.username or "") or options.get("username", "")
    if parts.username:
        options["username"] = user
    if parts.password:
        options["password"] = unquote(parts.password)
    where = _unix(parts, options) if scheme == "unix" else _host(parts, port, options)
    secret = ":***" if "password" in options else ""
    login = f"{user}{secret}@" if user or secret else ""
    given = {unquote(parts.password or ""), parts.password or "", *(str(options.get(name, "")) for name in _SECRET)}
    return Address(
        kind="unix" if scheme == "unix" else "rediss" if scheme == "rediss" else "redis",
        shown=f"{scheme}://{login}{where}",
        options=options,
        secrets=tuple(sorted(given - {""}, key=len, reverse=True)),
    )


_SECRET = ("password", "ssl_password")


def _parameters(parts: SplitResult) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, text in parse_qsl(parts.query, keep_blank_values=True):
        if name in _ELSEWHERE:
            raise ConfigError(f"BUS_REDIS_URL: parameter '{name}' cannot be set here: {_ELSEWHERE[name]}")
        if name not in _PARAMETERS:
            raise ConfigError(f"BUS_REDIS_URL: {_unknown(name)}")
        if name in options:
            raise ConfigError(f"BUS_REDIS_URL: parameter '{name}' is given twice")
        if name.startswith("ssl_") and parts.scheme != "rediss":
            raise ConfigError(f"BUS_REDIS_URL: parameter '{name}' is for TLS: write rediss://, or leave it out")
        try:
            options[name] = _PARAMETERS[name](text)
        except ConfigError as error:
            raise ConfigError(f"BUS_REDIS_URL: parameter '{name}': {error}") from None
    options.pop("protocol", None)  # only 2 is allowed, and it is the default
    return options


def _unknown(name: str) -> str:
    # A '?' in a password makes the rest of it look like a parameter: only what looks like a name is repeated.
    if not re.fullmatch(r"[a-z_]{1,40}", name):
        return f"the part after the '?' is not name=value; {_ESCAPE}"
    near = difflib.get_close_matches(name, [*_PARAMETERS, *_ELSEWHERE], 1)
    known = ", ".join(sorted(_PARAMETERS))
    return f"parameter '{name}' is unknown: {f'did you mean {near[0]}?' if near else f'the known ones are {known}'}"


def _host(parts: SplitResult, port: int | None, options: dict[str, Any]) -> str:
    path = parts.path.strip("/")
    if path:
        if "db" in options:
            raise ConfigError("BUS_REDIS_URL names the database twice: in its path and as parameter 'db'")
        try:
            options["db"] = _number(unquote(path))
        except ConfigError:
            raise ConfigError(f"BUS_REDIS_URL: the database, after the host, must be a number; {_ESCAPE}") from None
    host = unquote(parts.hostname or "localhost")
    options["host"], options["port"] = host, port or 6379
    return f"{f'[{host}]' if ':' in host else host}:{options['port']}/{options.get('db', 0)}"


def _unix(parts: SplitResult, options: dict[str, Any]) -> str:
    if parts.hostname or not parts.path:
        raise ConfigError("BUS_REDIS_URL: the path of a socket begins with a slash: unix:///run/redis.sock?db=0")
    options["path"] = unquote(parts.path)
    return f"{options['path']}?db={options.get('db', 0)}"
