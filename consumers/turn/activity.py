"""Activity: what a run has under way between two waits, and what becomes of it when Redis fails under it."""

from types import TracebackType

from stepstream.bus.errors import StoreError, StoreUnavailable
from stepstream.consumers.turn.exit import TurnOver
from stepstream.consumers.turn.idle_timer import IdleTimer
from stepstream.consumers.turn.recorder import Recorder
from stepstream.consumers.turn.state import RunState


class Activity:
    """`with activity:` stands around each step's body and around all that a run asks of Redis; no run suspends inside.

    An error of Redis that comes out of it is not the author's: the turn is abandoned, and no attempt is used up.
    """

    __slots__ = ("_recorder", "_state", "count", "idle", "under_way")

    def __init__(self, state: RunState, recorder: Recorder) -> None:
        self._state = state
        self._recorder = recorder
        self.under_way = 0
        """Bodies, saves and notes that have not ended."""
        self.count = 0
        """Grows with whatever a step of the run does: a run whose count stands still is idle."""
        self.idle: IdleTimer | None = None
        """Started again whenever something has ended; None while nothing waits for the run to be idle."""

    def __enter__(self) -> None:
        """Begin; TurnOver when the turn has ended."""
        if self._state.over:
            raise TurnOver
        self.under_way += 1
        self.count += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End; TurnOver in place of an error of Redis."""
        self.under_way -= 1
        self.count += 1
        if self.idle is not None:
            self.idle.restart()
        if isinstance(error, StoreError | StoreUnavailable):
            self._recorder.abandon(error)
            raise TurnOver from None
