"""Passwords: kept as argon2id hashes, which take a while to make on purpose."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from stepstream.bus.errors import BadRequest

LEAST, MOST = 12, 256
"""How long a password is, characters."""
_HASHER = PasswordHasher()
"""With the library's parameters: those of RFC 9106 for little memory, 64 MiB each."""
_AT_ONCE = ThreadPoolExecutor(2, "passwords")
"""So many are looked at at once: whoever guesses gets two cores and 128 MiB of us, and no more."""
_NOBODYS = "$argon2id$v=19$m=65536,t=3,p=4$dX8GrVbJJVqCC1NJky2eCQ$RRqBwBR4Bx0DvYqWcyptPWGivIc0xgwuhx6qevPtjZ4"
"""Of nobody: whether a name is known does not show in how long an answer takes."""


def hashed(password: str) -> str:
    """Return the hash of a new password; BadRequest for one that is too short or too long."""
    if not LEAST <= len(password) <= MOST:
        raise BadRequest(f"a password has {LEAST} to {MOST} characters, this one has {len(password)}")
    return _HASHER.hash(password)


async def is_right(password: str, kept: str | None) -> bool:
    """Whether a password is the one that was hashed (None: there is nobody, and it never is)."""
    if len(password) > MOST:
        return False
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_AT_ONCE, _verified, kept or _NOBODYS, password) and kept is not None


def _verified(kept: str, password: str) -> bool:
    try:
        return _HASHER.verify(kept, password)
    except (VerificationError, InvalidHashError):  # another password; a hash that was written by hand
        return False
