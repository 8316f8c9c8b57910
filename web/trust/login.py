"""Logging in: a name and a password become a session."""

from starlette.requests import Request

from stepstream.bus.errors import BusError
from stepstream.checkpoint.audit_log import DONE
from stepstream.web.store import wire_of
from stepstream.web.trust import attempts
from stepstream.web.trust.audit import write_down
from stepstream.web.trust.passwords import is_right
from stepstream.web.trust.principal import Principal
from stepstream.web.trust.users import User, user

_SHUT = {
    "pair": "refused: too many have failed, of this name from this address",
    "address": "refused: too many have failed from this address",
    "name": "refused: too many have failed, of this name",
}
"""What the audit log says when no more are tried for a while."""


class LoginRefused(BusError):
    """A name and a password that are not of a user; which of both is wrong is not told."""

    code = "login"
    status = 401

    def __init__(self) -> None:
        super().__init__("wrong name or password")


async def log_in(request: Request, name: str, password: str) -> User:
    """Return the user whose name and password these are; LoginRefused, TooManyAttempts."""
    wire, address = wire_of(request), request.client.host if request.client is not None else ""
    try:
        await attempts.begin(wire, name, address)
    except attempts.TooManyAttempts as error:
        if error.is_first:  # once: who guesses on shall not push other acts out of the log
            known = await user(wire, name)
            await write_down(request, "log_in", Principal(name if known else "", "read"), _SHUT[error.kind])
        raise
    found = await user(wire, name)
    if not await is_right(password, None if found is None else found.password) or found is None:
        # Only a name that there is: people write their password there.
        await write_down(request, "log_in", Principal(name if found else "", "read"), "refused: not the password")
        raise LoginRefused
    await attempts.succeeded(wire, name, address)
    await write_down(request, "log_in", Principal(name, found.role), DONE)
    return found
