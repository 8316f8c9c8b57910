"""Turns: few have one in each round, and everybody who asks has one in time."""

from stepstream.web.live.turns import Turns


def rounds(turns: Turns, *asking: str) -> list[str]:
    """Return who has a turn in each of several rounds in which the same ask, in the same order."""
    found: list[str] = []
    for some in asking:
        turns.anew()
        found.append("".join(one for one in some if turns.has(one)))
    return found


def test_those_who_always_ask_last_have_their_turns_too() -> None:
    assert rounds(Turns(2), *["abcde"] * 5) == ["ab", "cd", "ae", "bc", "ad"]


def test_as_many_as_there_are_turns_have_one_each_time_also_after_others_have_gone() -> None:
    assert rounds(Turns(2), "abcd", "ab", "ab", "ab") == ["ab", "", "ab", "ab"], "two turns were kept for who has gone"


def test_whoever_asks_twice_in_a_round_had_the_turn_already() -> None:
    turns = Turns(1)
    turns.anew()
    assert [turns.has("a"), turns.has("a"), turns.has("b")] == [True, False, False]
    turns.anew()
    assert [turns.has("a"), turns.has("b")] == [False, True]
