"""Abilities: what an app does beside what every SDK does, by who its SDK is."""

import msgspec

from stepstream.consumers.remote.protocol import OWN

_PYTHON = "py:"
"""What the name of the Python SDK begins with."""


class Abilities(msgspec.Struct, frozen=True, kw_only=True):
    """What an app does beside what every SDK does. Our own (`serve(app)`) have Redis, and do more."""

    saves: bool = True
    """It may record steps while a call is open."""
    looks_up: bool = False
    """It reads from Redis how its run stands, so that calls need not tell it."""
    counts_attempts: bool = False
    """It counts the attempts of its steps, and says which was the last."""
    finds_beside: bool = False
    """Called for one step, it also tells what it has found behind it, or that its code does not reach it any more."""
    knows_changes: bool = False
    """It says when its code does not call what the run has begun."""


_OURS = Abilities(looks_up=True, counts_attempts=True, finds_beside=True, knows_changes=True)


def abilities_of(sdk: str) -> Abilities:
    """Return what an app does whose SDK calls itself so: `js:v4.24.0`."""
    return _OURS if sdk.startswith(OWN) else Abilities(saves=not sdk.startswith(_PYTHON))
