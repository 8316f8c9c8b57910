"""A pytest plugin: async tests of functions need nothing else: no marker, no setting, no conftest.

    async def test_orders(harness):
        async with harness(app) as bus:
            await bus.send(OrderPaid(order_id="o1"))

The fixture `harness` makes a Harness; `--bus-url` runs the same tests on a real server. An async test that uses the
fixture, itself or through another fixture, or whose module has Harness, is run with anyio's plugin on asyncio, unless
somebody else runs it: it is marked (`asyncio`, `anyio`, `trio`, …), or another plugin takes every async test.
"""

import inspect
import re
import sys
import warnings
from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:
    from stepstream.consumers.testing.harness import Harness

_THEIRS = ("anyio", "asyncio", "trio", "asyncio_cooperative", "curio", "gen_test", "twisted")
"""Markers with which a test says who is to run it."""
_THEIR_MODES = ("asyncio_mode", "anyio_mode")
"""Settings with which a plugin takes all async tests, as `auto`."""
_MARKS = (
    pytest.mark.usefixtures("anyio_backend"),
    # On asyncio alone, where anyio would run it on trio too.
    pytest.mark.parametrize(
        "anyio_backend", ["asyncio"], indirect=True, ids=[getattr(pytest, "HIDDEN_PARAM", "asyncio")]
    ),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --bus-url."""
    parser.getgroup("stepstream").addoption(
        "--bus-url",
        default=None,
        metavar="URL",
        help="run what uses the fixture `harness` on this Redis, which is emptied for each, instead of one of its own",
    )


@pytest.fixture
def harness(request: pytest.FixtureRequest) -> "Callable[..., Harness]":
    """Return what makes a Harness: `async with harness(app) as bus:`."""
    from stepstream.consumers.testing.harness import Harness

    url: str | None = request.config.getoption("--bus-url")
    return partial(Harness, url=url, flush=url is not None)


# -- a forgotten await ----------------------------------------------------------------------------------------------

_UNAWAITED = re.compile(r"coroutine '(Bus\.\w+|Runs\.\w+)' was never awaited")
_UNSENT = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Make the list of what was not awaited."""
    config.stash[_UNSENT] = []
    plugin = _Unawaited(config.stash[_UNSENT])
    config.pluginmanager.register(plugin, "stepstream-unawaited")


class _Unawaited:
    """Fails a session in which `app.send(…)` was called without `await`: Python only warns of it."""

    def __init__(self, unsent: list[str]) -> None:
        self._unsent = unsent

    def pytest_warning_recorded(self, warning_message: warnings.WarningMessage, nodeid: str) -> None:
        """Keep what is told of a coroutine of ours."""
        found = _UNAWAITED.search(str(warning_message.message))
        if found is not None:
            where = f"{warning_message.filename}:{warning_message.lineno}"
            self._unsent.append(f"{nodeid or where}: {found[1]} was called without await, and did nothing ({where})")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail the session."""
        if self._unsent and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say where."""
        for line in self._unsent:
            terminalreporter.write_line(line, red=True, bold=True)


# -- async tests ----------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, name: str, obj: object
) -> Generator[None, Any, Any]:
    """Collect an async test that is ours once more, now with anyio's fixture, which runs it and its async fixtures."""
    made = yield
    if not _is_ours(collector, made):
        return made
    for mark in _MARKS:
        mark(obj)  # pyright: ignore[reportCallIssue, reportArgumentType]
    return collector.ihook.pytest_pycollect_makeitem(collector=collector, name=name, obj=obj)


def _is_ours(collector: pytest.Module | pytest.Class, made: object) -> bool:
    """Return whether what was made of an object is an async test of ours that nobody runs."""
    items = cast("list[object]", made) if isinstance(made, list) else [made]
    item = items[0] if items else None
    if not isinstance(item, pytest.Function) or "anyio_backend" in item.fixturenames or not _is_async(item.obj):
        return False
    config = collector.config
    if not config.pluginmanager.has_plugin("anyio") or any(item.get_closest_marker(one) for one in _THEIRS):
        return False
    if any(_mode(config, one) == "auto" for one in _THEIR_MODES):
        return False
    known = sys.modules.get("stepstream.consumers.testing.harness")
    has_harness = known is not None and any(value is known.Harness for value in vars(item.module).values())
    return has_harness or "harness" in item.fixturenames


def _is_async(test: Any) -> bool:
    inner = getattr(getattr(test, "hypothesis", None), "inner_test", test)
    return inspect.iscoroutinefunction(inner)


def _mode(config: pytest.Config, name: str) -> str:
    try:
        return str(config.getoption(name, default=None) or config.getini(name))
    except (KeyError, ValueError):  # that plugin is not there
        return ""
