"""Failpoints: named places, between every two commands of a run's life, where a test may end the process like a crash.

`BUS_FAILPOINT=save.replied:3` exits with code 9 at the third passing. docs/state-machine.md lists the names.
"""

import os

NAMES = frozenset({
    "publish.sent", "read.replied", "claim.replied", "start.replied", "body.ended", "save.replied", "open.replied",
    "park.replied", "park.acked", "end.replied", "end.acked", "timers.fired", "release.replied",
    "send.stored", "courier.told", "cron.ticked", "admit.replied", "pop.replied",
    "delayed.published", "outbox.published", "blob.written",
})  # fmt: skip

_armed: str | None = None
_left = 0


def arm(spec: str) -> None:
    """End this process the n-th time it reaches a failpoint (`save.replied:3`). An empty spec arms nothing."""
    global _armed, _left
    name, _, passing = spec.partition(":")
    if name:
        _armed, _left = name, int(passing or 1)


def reached(name: str) -> None:
    """Mark a failpoint: costs one comparison when nothing is armed."""
    global _left
    if _armed == name:
        _left -= 1
        if _left == 0:
            os._exit(9)
