"""`pytest --forks N`: tests in several processes, each a fork of the one that has collected them.

To import and to collect all tests costs seconds of a core; processes that each do so (pytest-xdist's) spend a fifth of
`make test` with it. A fork asks for a test when it has none, so none waits behind a slow one.
"""

import atexit
import contextlib
import gc
import multiprocessing
import os
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import pytest

from tests.patience import PATIENT_S

_FORK = multiprocessing.get_context("fork")
_GONE = object()


class _Fork:
    """One process: how it is reached, and what it has been given and has not told of, by its place in the session."""

    def __init__(self, process: BaseProcess, pipe: Connection) -> None:
        self.process = process
        self.pipe = pipe
        self.given: deque[int] = deque()


class SideBySide:
    """A plugin that runs what is collected in `count` processes."""

    def __init__(self, count: int, group_of: Callable[[str], str], first: Sequence[str] = ()) -> None:
        """Give tests of one group to one process, one behind the other.

        Groups are begun first, the largest before the others, then the tests whose names begin with one of `first`: what
        takes long is begun before what does not, so none is waited for at the end.
        """
        self._count = count
        self._group_of = group_of
        self._first = tuple(first)
        self._waiting: deque[list[int]] = deque()
        self._forks: dict[Connection, _Fork] = {}
        self._numbers = iter(range(1_000_000))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Run all tests, unless pytest itself has something to say of them."""
        if session.testsfailed or session.config.option.collectonly:
            return None
        if (reporter := session.config.pluginmanager.getplugin("terminalreporter")) is not None:
            reporter.showfspath = False  # files come in no order
        groups: dict[str, list[int]] = {}
        for place, item in enumerate(session.items):
            groups.setdefault(self._group_of(item.nodeid), []).append(place)
        names = [item.nodeid for item in session.items]
        self._waiting.extend(
            sorted(groups.values(), key=lambda group: (-len(group), not names[group[0]].startswith(self._first)))
        )
        session.config._tmp_path_factory.getbasetemp()
        try:
            for _ in range(min(self._count, len(self._waiting))):
                self._begin(session)
            while self._forks:
                for pipe in wait(list(self._forks)):
                    assert isinstance(pipe, Connection)
                    self._hear(session, self._forks[pipe])
                    if session.shouldfail:
                        raise session.Failed(session.shouldfail)
                    if session.shouldstop:
                        raise session.Interrupted(session.shouldstop)
        finally:
            self._end()
            gc.freeze()  # pytest looks for garbage of tests before it ends, ten times: here was none made
        return True

    def _begin(self, session: pytest.Session) -> None:
        ours, theirs = _FORK.Pipe()
        not_its_own = [*self._forks, ours]  # else none would see that pytest has closed its pipe
        process = _FORK.Process(target=_work, args=(session, theirs, next(self._numbers), not_its_own))
        process.start()
        theirs.close()
        self._forks[ours] = _Fork(process, ours)

    def _hear(self, session: pytest.Session, fork: _Fork) -> None:
        said: Any = _GONE
        with contextlib.suppress(EOFError, ConnectionResetError):
            said = fork.pipe.recv()
        if said is _GONE:
            self._ended(session, fork)
            return
        if said is None:  # it has no test
            following = self._waiting.popleft() if self._waiting else []
            fork.given.extend(following)
            fork.pipe.send(following)
            return
        reports, warned = said
        for one in warned:
            session.config.hook.pytest_warning_recorded.call_historic(kwargs=one)
        made = [session.config.hook.pytest_report_from_serializable(config=session.config, data=one) for one in reports]
        _tell(session, session.items[fork.given.popleft()], made)

    def _ended(self, session: pytest.Session, fork: _Fork) -> None:
        """Its end is the failure of the test that it ran; another process takes what it had not begun."""
        del self._forks[fork.pipe]
        fork.pipe.close()
        fork.process.join()
        if not fork.given:
            assert fork.process.exitcode == 0, f"a process ended with {fork.process.exitcode} while it ran no test"
            return
        item = session.items[fork.given.popleft()]
        words = f"the process that ran this test ended with {fork.process.exitcode}"
        _tell(session, item, [pytest.TestReport(item.nodeid, item.location, {}, "failed", words, "call")])
        if fork.given:
            self._waiting.appendleft(list(fork.given))
        if self._waiting:
            self._begin(session)

    def _end(self) -> None:
        """Let each process see that nobody listens: it takes down what it has set up, as servers, and ends."""
        for fork in self._forks.values():
            fork.pipe.close()
        for fork in self._forks.values():
            fork.process.join(PATIENT_S)
            fork.process.kill()


def _tell(session: pytest.Session, item: pytest.Item, reports: Sequence[pytest.TestReport]) -> None:
    hook = session.config.hook
    hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in reports:
        hook.pytest_runtest_logreport(report=report)
    hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)


# -- in a fork ------------------------------------------------------------------------------------------------------


class _Told:
    """What pytest tells of a test, until it is handed over."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._reports: list[dict[str, Any]] = []
        self._warned: list[dict[str, Any]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._reports.append(data)

    def pytest_warning_recorded(
        self, warning_message: warnings.WarningMessage, when: str, nodeid: str, location: tuple[str, int, str] | None
    ) -> None:
        told = warning_message
        plain = warnings.WarningMessage(str(told.message), told.category, told.filename, told.lineno)
        self._warned.append({"warning_message": plain, "when": when, "nodeid": nodeid, "location": location})

    def taken(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        taken = self._reports, self._warned
        self._reports, self._warned = [], []
        return taken


class _Following:
    """The test behind a group's last one: it is asked for when that one is torn down, and what both need stays."""

    def __init__(self, items: list[pytest.Item], ask: Callable[[], list[int]]) -> None:
        self._items = items
        self._ask = ask
        self.group: list[int] | None = None

    def listchain(self) -> list[Any]:
        """Return what pytest asks a test for."""
        if self.group is None:
            self.group = self._ask()
        return self._items[self.group[0]].listchain() if self.group else []


def _work(session: pytest.Session, pipe: Connection, number: int, not_ours: list[Connection]) -> None:
    for one in not_ours:
        one.close()
    config = session.config
    told = _Told(config)
    config.pluginmanager.unregister(name="terminalreporter")
    config.pluginmanager.register(told)
    told.taken()  # warnings of the collection, which pytest tells each new plugin
    capturing = config.pluginmanager.getplugin("capturemanager")
    if capturing is not None:  # else what all forks print went to one file
        capturing.stop_global_capturing()
        with open(os.devnull, "w") as nowhere:  # goes what threads print between two tests
            os.dup2(nowhere.fileno(), 1)
        capturing.start_global_capturing()
        capturing.suspend_global_capture()
    folders = config._tmp_path_factory
    folders._basetemp = folders.getbasetemp() / f"fork-{number}"
    folders._basetemp.mkdir(mode=0o700)

    def ask() -> list[int]:
        pipe.send(None)
        return pipe.recv()

    # pytest has closed the pipe, or Ctrl+C is for all processes: in both cases it has said why.
    with contextlib.suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        try:
            group = ask()
            while group:
                following = _Following(session.items, ask)
                items = [session.items[place] for place in group]
                for item, behind in pairwise([*items, following]):
                    config.hook.pytest_runtest_protocol(item=item, nextitem=behind)
                    pipe.send(told.taken())
                group = following.group if following.group is not None else ask()
        finally:
            session._setupstate.teardown_exact(None)
            atexit._run_exitfuncs()  # a fork has none by itself, and they end servers of the harness
