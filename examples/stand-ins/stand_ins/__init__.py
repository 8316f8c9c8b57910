"""Stand-ins: what the examples have in place of the outside world, and of a service manager.

An application asks a model, a market or a blob store by a call that begins with `await outside("ask/opus")`. What
happens then stands in a file, which tests write, and which you may edit while an example runs.
"""

import importlib
from typing import TYPE_CHECKING

from stand_ins.trouble import CRASHED, Told, Unavailable, calls, outside, outside_sync, tell

if TYPE_CHECKING:
    from stand_ins.fixtures import lose_redis
    from stand_ins.supervisor import Supervised, scratch_redis

__all__ = [
    "CRASHED", "Supervised", "Told", "Unavailable", "calls", "lose_redis", "outside", "outside_sync", "scratch_redis",
    "tell",
]  # fmt: skip
_FOR_TESTS = {"Supervised": "supervisor", "lose_redis": "fixtures", "scratch_redis": "supervisor"}


def __getattr__(name: str) -> object:
    """Load what only tests need when they do: a script that asks outside starts in a fraction of the time."""
    if name not in _FOR_TESTS:
        raise AttributeError(f"module 'stand_ins' has no attribute {name!r}")
    return getattr(importlib.import_module(f"stand_ins.{_FOR_TESTS[name]}"), name)
