"""What runs print, and threads and forks beside them."""

import asyncio
import io
import os
import signal
from typing import Any, cast

import pytest

from stepstream.bus.observe.stdlib import Printed
from stepstream.bus.process import scope
from stepstream.consumers.turn import run_log
from stepstream.consumers.turn.run_log import RunLog


class Silent:
    """A run in a replay."""

    function = run = trace = ""
    unfinished: dict[tuple[str, int], str] = {}  # noqa: RUF012 - what the protocol asks for

    def attempt_of(self, step: str) -> int:
        return 1

    def is_silent(self) -> bool:
        return True

    def write(self, source: scope.Source, text: str, *, step: str = "", level: str = "") -> None:
        raise AssertionError(text)


def test_bytes_are_refused_also_in_a_replay() -> None:
    """Click asks in this way whether a stream is binary, and remembers the answer: all it echoed later was lost."""
    printed = Printed("print", io.StringIO(), lambda fields: None)
    token = scope.current.set(Silent())
    try:
        assert printed.write("text") == 4
        with pytest.raises(TypeError, match="bytes"):
            printed.write(cast("Any", b""))
    finally:
        scope.current.reset(token)
        scope.when_turn_ends.pop()


class Kept:
    """A run whose log is a list."""

    function, run, trace = "shop-ship", "r", "t"

    def __init__(self) -> None:
        self.unfinished: dict[tuple[str, int], str] = {}
        self.lines: list[tuple[str, str]] = []

    def attempt_of(self, step: str) -> int:
        return 2

    def is_silent(self) -> bool:
        return False

    def write(self, source: scope.Source, text: str, *, step: str = "", level: str = "") -> None:
        self.lines.append((source, text))


def test_what_a_run_writes_to_standard_error_says_which_run_and_does_not_mix_with_what_it_prints() -> None:
    """It went to the terminal as it was: nobody could tell whose warning or traceback that had been."""
    shown, real, here = list[dict[str, Any]](), io.StringIO(), Kept()
    out, err = (Printed(name, real, shown.append) for name in ("print", "stderr"))
    token = scope.current.set(here)
    try:
        print("half a ", end="", file=out)
        err.write("labels.py:7: old\n")
        print("line", file=out)
        print("cut off", end="", file=err)
        for end in scope.when_turn_ends[-2:]:
            end(here)
    finally:
        scope.current.reset(token)
        del scope.when_turn_ends[-2:]
    print("outside", file=err)
    assert [(one["logger"], one["event"], one["run"]) for one in shown] == [
        ("stderr", "labels.py:7: old", "r"), ("print", "half a line", "r"), ("stderr", "cut off", "r"),
    ]  # fmt: skip
    assert {(one["attempt"], one["trace"]) for one in shown} == {(2, "t")}
    assert [text for _, text in here.lines] == ["labels.py:7: old", "half a line", "cut off"]
    assert real.getvalue() == "outside\n"


def test_a_process_forked_while_a_thread_writes_to_a_log_can_print() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    log = RunLog(loop, cast("Any", None), cast("Any", None), cast("Any", State()), None)
    with run_log._lock:  # pyright: ignore[reportPrivateUsage] - as a thread of the parent holds it
        child = os.fork()
        if child == 0:
            signal.alarm(5)
            log.write("print", "x")
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


class State:
    def server_now(self) -> int:
        return 0

    def attempt_of(self, step: str) -> int:
        return 0
