"""Users: the people who may log in, with their roles. They are kept in Redis, so that all sites know the same ones."""

import re

import msgspec

from stepstream.bus.errors import BadRequest, BusError, NotFound
from stepstream.bus.trust.roles import Role
from stepstream.bus.values import codec
from stepstream.bus.values.ids import token
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


class UserExists(BusError):
    """A user of this name is there already."""

    code = "user_exists"
    status = 409


class User(msgspec.Struct, frozen=True, kw_only=True):
    """Who may log in. `since` is Unix ms; `sessions` is what their sessions name: with another one these are over."""

    role: Role
    password: str
    since: int
    sessions: str

    def __repr__(self) -> str:
        """Show their role, and neither hash nor sessions."""
        return f"User(role={self.role!r}, since={self.since})"


def check_name(name: str) -> str:
    """Return a name that a user may have; BadRequest for another one."""
    if not _NAME.fullmatch(name):
        raise BadRequest(
            f"{name[:80]!r} is no name of a user: up to 64 letters, digits and . _ @ -, the first a letter or digit"
        )
    return name


async def users(wire: Wire) -> dict[str, User]:
    """Return all users by name, those that can be read."""
    raw = await wire.load("HGETALL", keys.users())
    found = {codec.text(name): _read(text) for name, text in zip(raw[::2], raw[1::2], strict=True)}
    return {name: user for name, user in sorted(found.items()) if user is not None}


async def user(wire: Wire, name: str) -> User | None:
    """Return a user; None where there is none of this name."""
    raw = await wire.look("HGET", keys.users(), name)
    return None if raw is None else _read(raw)


async def add(wire: Wire, name: str, role: Role, password: str) -> User:
    """Add a user with the hash of their password; UserExists."""
    made = User(role=role, password=password, since=await wire.clock(), sessions=token())
    if not await wire.call("HSETNX", keys.users(), check_name(name), codec.encode(made)):
        raise UserExists(f"user {name!r} is there already; bus users role {name} {role} gives them another role")
    return made


async def change(wire: Wire, name: str, *, role: Role | None = None, password: str | None = None) -> User:
    """Give a user another role, or the hash of another password, which ends their sessions; NotFound."""
    found = await user(wire, name)
    if found is None:
        raise _nobody(name)
    made = msgspec.structs.replace(
        found,
        role=role or found.role,
        password=password or found.password,
        sessions=token() if password else found.sessions,
    )
    await wire.call("HSET", keys.users(), name, codec.encode(made))
    return made


async def remove(wire: Wire, name: str) -> None:
    """Remove a user: their sessions are over at once; NotFound."""
    if not await wire.call("HDEL", keys.users(), name):
        raise _nobody(name)


def _nobody(name: str) -> NotFound:
    return NotFound(f"there is no user {name[:80]!r}; bus users lists them")


def _read(raw: bytes) -> User | None:
    try:
        return codec.decode_as(raw, User)
    except msgspec.DecodeError:  # written by hand: it lets nobody in
        return None
