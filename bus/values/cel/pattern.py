"""Pattern: how much work a regular expression is, to compile and to look for. CEL compiles one each time it is asked.

What is repeated `{n}` times is compiled n times, groups with all that is in them. It always ends, but goes through all
states that it may be in for each character of a text.
"""

import re
from collections.abc import Callable
from functools import lru_cache

_PIECE = re.compile(r"\\[pP][^{]|\\[pPxuU]\{[^}]*\}|\\.|\[(?:\\.|[^\]])*\]?|\{\s*\d*\s*(?:,\s*\d*\s*)?\}|.", re.DOTALL)
_REPEATED = re.compile(r"\{\s*(\d*)\s*(?:,\s*(\d*)\s*)?\}")
_FLAGS = re.compile(r"\(\?[a-zA-Z-]*[ix]")
"""With these flags letters stand for several, or blanks and comments for nothing."""
_MANY = re.compile(r"\\[pPwWdDsSbB]")
"""What stands for hundreds of characters."""
_SOME = re.compile(r"\\[xuU]|[^\x00-\x7f]|\[\^|^\.$")
_ANY, _CHARACTER, _STATE = 200, 100, 8
"""What it is to compile one, each character of it, each state."""
_OF_MANY, _OF_SOME = 1_250, 50
"""How many states those have."""
_MOST_STATES = 300_000
"""What has more is not compiled beyond that."""
_LONGEST = 50_000
"""Characters; what is longer is too much by its length alone, and is not looked into."""
_AT_ONCE = 4
"""So many states are gone through as one value is copied."""


def to_compile(pattern: str) -> int:
    """Return what it is to compile a pattern, in values that are copied meanwhile."""
    return _ANY + _CHARACTER * len(pattern) + _STATE * min(_states(pattern, _compiled), _MOST_STATES)


def to_look(pattern: str, characters: int) -> int:
    """Return what it is to look for a pattern in texts of so many characters."""
    return characters * min(_states(pattern, _gone_through), _MOST_STATES) // _AT_ONCE


def _compiled(piece: str) -> int:
    return 1 + len(piece) // 4 + _OF_MANY * len(_MANY.findall(piece)) + _OF_SOME * len(_SOME.findall(piece))


def _gone_through(piece: str) -> int:
    return 4 if _MANY.search(piece) or _SOME.search(piece) else 1


@lru_cache(maxsize=64)
def _states(pattern: str, of: Callable[[str], int]) -> int:
    """Return how many states a pattern has at most, of what each piece of it has."""
    if len(pattern) > _LONGEST:
        return _MOST_STATES
    groups: list[int] = []
    pieces = _PIECE.findall(pattern)
    found = last = 0
    times = 1
    for piece in pieces:
        repeated = _REPEATED.fullmatch(piece)
        if repeated is not None:
            more = min(max(1, *(int(one[:9] or 1) for one in repeated.groups("1"))), _MOST_STATES)
            found = min(found + last * (more - 1), _MOST_STATES)
            last = min(last * more, _MOST_STATES)
            times = min(times * more, _MOST_STATES)
        elif piece == "(":
            groups.append(found)
            found = last = 0
        elif piece == ")":  # one too many closes all there was
            last, found = found, found + (groups.pop() if groups else 0)
        elif piece in {"?", "*", "+"}:
            found += 1
        else:
            last = of(piece)
            found += last
    found += sum(groups)
    if _FLAGS.search(pattern):
        found = sum(map(of, pieces)) * times * 8
    return min(found, _MOST_STATES)
