"""When a worker takes the server's clock for one that was set. No Redis."""

import pytest

from stepstream.bus.wire.serverclock import ServerClock, boot

HOUR = 3_600_000


def seen(clock: ServerClock, ahead_ms: int, sent: float, took: float = 0.001, at: float = 0.5) -> int:
    """Let a reply come that took so many seconds; the server looked at its clock `at` that share of the way."""
    return clock.saw(int((sent + took * at) * 1_000) + ahead_ms, sent, sent + took)


@pytest.mark.parametrize("ahead", [HOUR, -HOUR, 90_000, 300, -300])
def test_a_clock_that_was_set_is_told_of_once(ahead: int) -> None:
    clock = ServerClock(250)
    assert [seen(clock, 0, n) for n in range(3)] == [0, 0, 0]
    assert seen(clock, ahead, 3.0) == pytest.approx(ahead, abs=3)
    assert [seen(clock, ahead, n) for n in range(4, 9)] == [0] * 5


@pytest.mark.parametrize("at", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
def test_a_clock_that_was_set_is_told_of_once_though_the_reply_took_long(ahead: int, at: float) -> None:
    """Under load one worker of three told of it twice: first of the least that it may be, then of the rest."""
    clock = ServerClock(250)
    seen(clock, 0, 1.0)
    assert seen(clock, ahead, 2.0, took=3.0, at=at) == pytest.approx(ahead, abs=3_010)
    assert [seen(clock, ahead, n) for n in range(6, 9)] == [0, 0, 0]


@pytest.mark.parametrize("at", [0.0, 1.0])
def test_a_first_reply_that_took_long_is_no_clock_that_was_set(at: float) -> None:
    clock = ServerClock(250)
    assert seen(clock, 0, 1.0, took=3.0, at=at) == 0
    assert [seen(clock, 0, n) for n in range(5, 9)] == [0] * 4


def test_a_clock_that_runs_a_little_fast_is_followed() -> None:
    clock = ServerClock(250)
    assert [seen(clock, n, n / 10) for n in range(2_000)] == [0] * 2_000
    assert clock.sure_until() == pytest.approx(boot() * 1_000 + 2_000 + 250, abs=10)
