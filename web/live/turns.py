"""Turns: of those who want what only few can have between two changes, who may: who has waited for longest."""

from collections.abc import Hashable


class Turns:
    """Gives `most` turns in each round. Whoever wants one asks in each round; nobody is told when theirs comes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._left = most
        self._round = 0
        self._first: set[Hashable] = set()
        """For whom turns of this round are kept."""
        self._had: dict[Hashable, int] = {}
        """Who has asked in this round or in the last, and in which they had their last turn; -1: in none."""
        self._asked: set[Hashable] = set()

    def anew(self) -> None:
        """Begin a round: those who asked in the last one go first, in the order of their last turns."""
        self._had = {one: had for one, had in self._had.items() if one in self._asked}
        self._first = set(sorted(self._had, key=lambda one: self._had[one])[: self._most])
        self._left = self._most - len(self._first)
        self._asked.clear()
        self._round += 1

    def has(self, who: Hashable) -> bool:
        """Whether it is somebody's turn in this round, which is over with that."""
        self._asked.add(who)
        is_kept = who in self._first
        if not is_kept and self._left <= 0:
            self._had.setdefault(who, -1)
            return False
        self._first.discard(who)
        self._left -= not is_kept
        self._had[who] = self._round
        return True
