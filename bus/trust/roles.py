"""Roles: what somebody may do here; and API tokens, each of which has one."""

import re
from typing import Literal, get_args

import msgspec

from stepstream.bus.errors import ConfigError

Role = Literal["read", "operate", "admin"]
"""`read` sees runs and their data; `operate` acts on runs too; `admin` may do all that others cannot undo as well."""

_ROLES: tuple[Role, ...] = get_args(Role)
_TOKEN = re.compile(r"(?:(?P<role>[^:@]*)(?:@(?P<name>[^:]*))?:)?(?P<secret>[^:]*)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LEAST = 16


class Token(msgspec.Struct, frozen=True):
    """An API token: what its owner shows, what it is good for, and the name by which it is told who has acted."""

    secret: str
    role: Role
    name: str

    def __repr__(self) -> str:
        """Show whose it is, and not the token."""
        return f"Token(role={self.role!r}, name={self.name!r})"


def role_of(word: str) -> Role | None:
    """Return the role of a word; None for another one."""
    return next((one for one in _ROLES if one == word), None)


def is_enough(role: Role, needs: str) -> bool:
    """Whether who has a role may do what needs another: each role may do all that those before it may."""
    return needs in _ROLES and _ROLES.index(role) >= _ROLES.index(needs)


def token(text: str, n: int) -> Token:
    """Return the n-th token of BUS_API_TOKENS: `SECRET` (admin), `ROLE:SECRET` or `ROLE@NAME:SECRET`.

    ConfigError, which does not show it, for another text.
    """
    parts = _TOKEN.fullmatch(text)
    if parts is None:
        raise ConfigError(f"BUS_API_TOKENS: the {n}. token has more than one colon; write ROLE@NAME:SECRET")
    secret, role = parts["secret"], "admin" if parts["role"] is None else role_of(parts["role"])
    if role is None:
        raise ConfigError(
            f"BUS_API_TOKENS: what stands before the colon of the {n}. token is no role; "
            "write read:SECRET, operate:SECRET or admin:SECRET, or with a name read@grafana:SECRET"
        )
    if parts["name"] is not None and not _NAME.fullmatch(parts["name"]):
        raise ConfigError(
            f"BUS_API_TOKENS: the name of the {n}. token must be up to 64 letters, digits and . _ -, "
            "the first a letter or digit: read@grafana:SECRET"
        )
    if len(secret) < _LEAST or not secret.isascii() or not secret.isprintable() or " " in secret:
        raise ConfigError(
            f"BUS_API_TOKENS: the {n}. token must have at least {_LEAST} ASCII letters, digits or signs, "
            "without spaces; make one with: openssl rand -hex 32"
        )
    return Token(secret, role, parts["name"] or f"token {n}")
