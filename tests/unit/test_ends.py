"""What a worker says when several of its parts have failed at once."""

import pytest

from stepstream.bus.errors import ConfigError, StoreUnavailable
from stepstream.bus.process.tasks import raised
from stepstream.consumers.cli import _raise


def test_the_errors_of_nested_groups_are_told_apart() -> None:
    first, second, third = ConfigError("1"), ValueError("2"), KeyError("3")
    nested = BaseExceptionGroup(
        "all", [first, BaseExceptionGroup("some", [BaseExceptionGroup("one", [second]), third])]
    )
    assert raised(nested) == [first, second, third]
    assert raised(first) == [first]


def test_of_two_errors_of_ours_one_is_raised_and_the_other_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The second was dropped."""
    with pytest.raises(ConfigError, match=r"^one$"):
        _raise([ConfigError("one"), ConfigError("two"), ConfigError("one")], "text", is_stopped=False)
    assert capsys.readouterr().err == "two\n"


def test_an_error_that_is_not_ours_is_the_one_that_is_raised_and_without_a_group(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It ended as a traceback of an ExceptionGroup, around both."""
    with pytest.raises(ValueError, match=r"^a bug$"):
        _raise([ConfigError("ours"), ValueError("a bug")], "text", is_stopped=False)
    assert capsys.readouterr().err == "ours\n"


def test_a_worker_that_stops_says_nothing_of_a_store_that_is_away() -> None:
    _raise([StoreUnavailable("away")], "text", is_stopped=True)
    with pytest.raises(StoreUnavailable):
        _raise([StoreUnavailable("away")], "text", is_stopped=False)
