"""Holdings: what a worker tells of itself and of the runs it has in hand, for people (bus/wire/leases.py: Telling)."""

import os
import socket
from collections.abc import Callable, Sequence
from importlib.metadata import version
from itertools import islice

from stepstream.bus.function import Function
from stepstream.bus.values import codec
from stepstream.checkpoint.facts.workers import MOST_HELD, Holding
from stepstream.consumers.executor import Executor
from stepstream.consumers.turn.turn import Turn


class Holdings:
    """Looks at one worker, once a second."""

    def __init__(
        self,
        slots: int,
        functions: Sequence[Function],
        executors: Sequence[Executor],
        is_draining: Callable[[], bool],
    ) -> None:
        """Make it; the lists may still grow."""
        self._executors = executors
        self._functions = functions
        self._is_draining = is_draining
        self._about = {
            "host": socket.gethostname(), "pid": str(os.getpid()),
            "version": version("stepstream"), "slots": str(slots), "drains": "1",
        }  # fmt: skip

    def look(self) -> dict[str, str]:
        """Return what there is to tell, each as text or JSON."""
        turns = sorted((turn for executor in self._executors for turn in executor.turns), key=lambda turn: turn.begun)
        return {
            **self._about,
            "functions": codec.encode({function.slug: function.code for function in self._functions}).decode(),
            "draining": "1" if self._is_draining() else "0",
            "in_hand": str(len(turns)),
            "held": codec.encode([_held(turn) for turn in islice(turns, MOST_HELD)]).decode(),
        }


def _held(turn: Turn) -> Holding:
    step, since = turn.bodies.oldest or ("", turn.begun)
    return Holding(turn.owned.slug, turn.owned.run, step, turn.state.server_at(since))
