"""Waterfall: a run's time as bars: how long it was queued, each step, each attempt of it that failed.

All places are in thousandths of the width; of a closer look (`Window`) only what lies in it is drawn. A stretch of time
in which nothing was at work, and that is many times as long as all work together, is cut short: a wait of days would
squeeze the work into one pixel. Its words say how long it was.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence

import msgspec

from stepstream.bus.values.durations import in_words
from stepstream.checkpoint.facts.attempts import FailedAttempt
from stepstream.checkpoint.read.run.steps import StepView

WIDTH = 1_000
LEAST = 4.0
"""How wide a bar is at least, so that it is seen."""
_LONG = 20
"""So many times as long as all work together an idle stretch must be to be cut to half of that."""


class Part(msgspec.Struct, frozen=True):
    """A piece of a bar: where it begins, how wide it is, and in words what it was."""

    left: float
    width: float
    words: str = ""


class Window(msgspec.Struct, frozen=True):
    """A closer look: from a moment to another, Unix ms."""

    begin: int
    end: int


class Scale:
    """Where on the bar a moment is."""

    def __init__(
        self,
        begin: int,
        finish: int,
        busy: Iterable[tuple[int, int]],
        moments: Iterable[int],
        window: Window | None = None,
    ) -> None:
        self.begin, self.finish = begin, finish
        work = _merged([(max(begin, a), min(finish, b)) for a, b in busy])
        total = sum(b - a for a, b in work)
        self._moments = sorted({begin, finish, *(one for one in moments if begin < one < finish)})
        self._places, self.cuts, at = [0.0], list[tuple[int, int]](), 0.0
        for a, b in zip(self._moments, self._moments[1:], strict=False):
            is_idle = not any(x < b and a < y for x, y in work)
            is_cut = total > 0 and is_idle and b - a > _LONG * total
            if is_cut:
                self.cuts.append((a, b))
            at += total / 2 if is_cut else b - a
            self._places.append(at)
        shown = window or Window(begin, finish)
        self._first = self._place(shown.begin)
        self._whole = (self._place(shown.end) - self._first) or 1.0
        self._end = self._first + self._whole

    def _place(self, moment: float) -> float:
        """Return where a moment is, were all of the run drawn."""
        if moment <= self._moments[0]:
            return 0.0
        if moment >= self._moments[-1]:
            return self._places[-1]
        i = bisect_right(self._moments, moment) - 1
        a, b = self._moments[i], self._moments[i + 1]
        low, high = self._places[i], self._places[i + 1]
        return low + (high - low) * (moment - a) / (b - a)

    def at(self, moment: float) -> float:
        """Return the place of a moment, 0 to 1000."""
        return min(float(WIDTH), max(0.0, (self._place(moment) - self._first) * WIDTH / self._whole))

    def moment(self, place: float) -> float:
        """Return the moment that lies at a place, 0 to 1000."""
        wanted = self._first + place * self._whole / WIDTH
        i = min(max(0, bisect_right(self._places, wanted) - 1), len(self._moments) - 2)
        low, high = self._places[i], self._places[i + 1]
        a, b = self._moments[i], self._moments[i + 1]
        return a + (b - a) * (wanted - low) / ((high - low) or 1.0)

    def part(self, begin: float, end: float, words: str = "") -> Part:
        """Return the piece between two moments; it is seen however short it is. Outside the window it has no width."""
        low, high = self._place(begin), self._place(end)
        if low > self._end or high < self._first:
            return Part(self.at(begin), 0.0, words)
        left = min(WIDTH - LEAST, self.at(begin))
        return Part(round(left, 1), round(max(LEAST, min(WIDTH - left, self.at(end) - left)), 1), words)

    @property
    def breaks(self) -> tuple[Part, ...]:
        """Where time is cut short, and of how long."""
        return tuple(self.part(a, b, f"{in_words(b - a)}, cut short") for a, b in self.cuts)


def _merged(stretches: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for a, b in sorted(one for one in stretches if one[1] > one[0]):
        if found and a <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], b)
        else:
            found.append((a, b))
    return found


def scale_of(
    queued: int,
    ended: int | None,
    now: int,
    steps: Sequence[StepView],
    attempts: Sequence[FailedAttempt],
    window: Window | None = None,
) -> Scale:
    """Return the scale of a run: from when it was queued to its end, or to what is due next; or of a closer look."""
    begin = min([queued, *(step.since for step in steps)])
    due = [step.due for step in steps if step.due is not None]
    finish = max(ended or max([now, *due]), begin + 1)
    busy = [(step.started, step.ended or now) for step in steps if step.kind not in WAITS and step.state != "retrying"]
    busy += [(one.began, one.ended) for one in attempts]
    moments = [moment for step in steps for moment in (step.since, step.started, step.ended or now, step.due or now)]
    return Scale(begin, finish, busy, [*moments, now, *(moment for one in busy for moment in one)], window)


def ticks_of(scale: Scale, queued: int, count: int = 5) -> tuple[str, ...]:
    """Return what time it is along the bars, since the run was queued."""
    places = (WIDTH * n / (count - 1) for n in range(count))
    return tuple(in_words(max(0, round(scale.moment(place) - queued))) for place in places)


WAITS = frozenset({"sleep", "event", "signal", "wait", "invoke"})
"""Kinds of steps in which no code of the author's is at work."""
