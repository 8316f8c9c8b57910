"""Journal: what changed of which function, look by look, so that who was away hears what it has missed."""

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import islice

import msgspec

from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.ids import token
from stepstream.checkpoint.read.lists.pulse import Pulse, pulse_in
from stepstream.checkpoint.run.record import ENDED

KEPT = 5_000
"""How many changes are kept."""


class Change(msgspec.Struct, frozen=True):
    """What changed of a function, as seen at a time (Unix ms).

    `runs` it has now of each status (null: it has been forgotten). Since it was told of last at least so many have
    `ended`, by status; `error` is the fingerprint of the error that came last, if one has come.
    """

    function: str
    at: int
    runs: dict[str, int] | None
    ended: dict[str, int] = {}
    error: str = ""


class Journal:
    """The last changes of all functions, in order. An id is a place in it: `<which journal>-<how many came before>`."""

    def __init__(self) -> None:
        self._name = ""
        self._words: dict[str, bytes] = {}
        self._changes: deque[Change] = deque(maxlen=KEPT)
        self._count = 0

    @property
    def is_open(self) -> bool:
        """Whether it has begun: from then on nothing that changes is missing."""
        return bool(self._name)

    @property
    def place(self) -> str:
        """The id of what was noted last."""
        return f"{self._name}-{self._count}"

    def end(self) -> None:
        """Forget all of it. The next one has another name."""
        self._name = ""
        self._words = {}
        self._changes.clear()

    def note(self, words: Mapping[str, bytes]) -> None:
        """Note what has changed since it was looked at last; `words` are the pulses of all functions."""
        if not self.is_open:
            self._name, self._count, self._words = token(), 0, dict(words)
            return
        for slug in sorted(words.keys() | self._words.keys()):
            was, now = self._words.get(slug), words.get(slug)
            if was != now:
                self._changes.append(_change(slug, was, now))
                self._count += 1
        self._words = dict(words)

    def since(self, place: str) -> Sequence[tuple[str, Change]] | None:
        """Return what was noted after a place, each with its id; None when that is not known (any more)."""
        name, _, text = place.rpartition("-")
        first = self._count - len(self._changes)
        if not self.is_open or name != self._name or not text.isdecimal() or not first <= int(text) <= self._count:
            return None
        behind = islice(self._changes, int(text) - first, None)
        return [(f"{name}-{number}", one) for number, one in enumerate(behind, int(text) + 1)]


def _change(slug: str, was: bytes | None, now: bytes | None) -> Change:
    if now is None:
        return Change(slug, now_ms(), None)
    told = pulse_in(now)
    before = pulse_in(was) if was is not None else Pulse(dict.fromkeys(told.runs, 0))
    ended = {status: more for status in ENDED if (more := told.runs.get(status, 0) - before.runs.get(status, 0)) > 0}
    return Change(slug, now_ms(), told.runs, ended, told.error if told.errored > before.errored else "")
