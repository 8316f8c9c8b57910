"""Rights: what the user of the documentation may do, and optional commands, which ACLs and hosted servers may refuse.

Each missing right costs one thing, which is reported once with the ACL rule that grants it. The command is tried again
each time, so a right that is granted while we run is used from then on.
"""

from collections.abc import Awaitable
from typing import Any

import msgspec

from stepstream.bus.errors import RightMissing, StoreError
from stepstream.bus.wire.connection.trouble import Notice

_NEEDED = (
    "-@all +@read +@write +@connection -@keyspace -@scripting -@dangerous -@admin -client +del +unlink +exists +type "
    "+pexpire +persist +pttl +eval +evalsha +script|load +script|exists +time +info +client|id +client|setname "
    "+client|unblock"
)


def rule(prefix: str) -> str:
    """Return the user that all of ours runs as: a line of redis.conf; what follows `user` is for `ACL SETUSER`."""
    return f"user stepstream on ><password> resetkeys ~{prefix}:* resetchannels {_NEEDED}"


class Right(msgspec.Struct, frozen=True):
    """A command, what is lost without it, and the ACL rule that grants it."""

    command: tuple[str, ...]
    without: str
    acl: str

    @property
    def text(self) -> str:
        """The command as text."""
        return " ".join(self.command)


INFO = Right(
    ("INFO",),
    "a broken connection is taken for a restart of the server, and memory, eviction and persistence stay unseen",
    "+info",
)
HELLO = Right(("HELLO",), "version, role and cluster mode stay unseen", "+hello")
CLIENT_ID = Right(("CLIENT", "ID"), "a stop waits up to 2 s for blocked reads", "+client|id")
CLIENT_UNBLOCK = Right(("CLIENT", "UNBLOCK"), "a stop waits up to 2 s for blocked reads", "+client|unblock")
CLIENT_SETNAME = Right(("CLIENT", "SETNAME"), "CLIENT LIST does not tell whose a connection is", "+client|setname")
SCRIPT_LOAD = Right(("SCRIPT", "LOAD"), "after a restart each script is sent whole once", "+script|load")
CONFIG_GET = Right(("CONFIG", "GET"), "bus doctor cannot look at fsync and listpack settings", "+config|get")
SCAN = Right(
    ("SCAN",),
    "bus check cannot look at every key (it shows the names of all keys of the server: give it to a user of its own)",
    "+scan",
)


class Rights:
    """The optional commands that one process has been refused."""

    def __init__(self, notice: Notice) -> None:
        self.missing: dict[Right, str] = {}
        """The refused rights, with the server's words."""
        self._notice = notice
        self._reported: set[Right] = set()

    async def answer(self, right: Right, asked: Awaitable[Any]) -> Any | None:
        """Return the reply to an optional command; None when it is refused. StoreUnavailable when Redis is away."""
        try:
            reply = await asked
        except (RightMissing, StoreError) as error:
            self.refused(right, str(error))
            return None
        self.missing.pop(right, None)
        return reply

    def refused(self, right: Right, error: str) -> None:
        """Report, once, that a right is missing."""
        self.missing[right] = error
        if right in self._reported:
            return
        self._reported.add(right)
        self._notice(
            f"{right.text} is refused: {right.without}",
            error=error,
            do=f"ACL SETUSER <user> {right.acl}, or live with it",
        )
