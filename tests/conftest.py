"""Fixtures: real servers, a wire, an application with a worker, and a look at what each test leaves in Redis."""

import asyncio
import functools
import gc
import importlib
import inspect
import os
import re
import shutil
import subprocess
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
import structlog
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from starlette.testclient import TestClient

from stepstream import create_app
from stepstream.bus.bus import Bus
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.upkeep.audit import standing
from tests import forks
from tests.chaos.clocked import LIBRARY
from tests.patience import CHAOS_MOST_S, MOST_S, PATIENT_S
from tests.promtool import MISSING, PROMTOOL
from tests.sdk.sdks import missing
from tests.side_by_side import SideBySide
from tests.support import NGINX, Lab, ValkeyProcess, acl_rule, free_port, logged_in

REDIS_SERVER = shutil.which("redis-server")
SERVERS = ["valkey", "redis7"] if REDIS_SERVER else ["valkey"]
HERE = Path(__file__).parent
ON_EACH_SERVER = HERE / "redis"
"""Its tests run on each server; of the others, those marked `each_server`, and all of them with TEST_SERVERS=each."""
AS_USER = {HERE / "system", HERE / "guide"}
"""Their tests have no more rights on the server than docs/operations.md gives a worker."""
ALL_MARKED = {"chaos": "chaos", "browser": "browser", "typing": "check", "sdk": "sdk"}
"""Folders of which each test has a mark."""
GATES = {"chaos", "process", "browser", "check", "sdk"}
"""Marks of tests that `make test` leaves to gates of their own."""
TOGETHER = {
    **{f"tests/sdk/apps/{one.name}": f"starts {one.stem}" for one in (HERE / "sdk/apps").glob("test_*.py")},
    "tests/test_house.py": "parse our code once",
    "tests/unit/test_strict.py": "try examples of hypothesis",
    "tests/unit/test_codec.py": "try examples of hypothesis",
    "tests/unit/test_signing.py": "try examples of hypothesis",
    "tests/unit/test_schemas.py": "try examples of hypothesis",
    "tests/redis/test_model.py": "try examples of hypothesis",
    "tests/system/test_paging.py": "try examples of hypothesis",
}
"""Files, and single tests, that run in one process, one behind the other, and why: what one of them has parsed serves
all. They are begun first, so none is the tail."""
FIRST = (
    "tests/system/test_looking.py",
    "tests/system/test_keys.py::test_every_route_wants_a_key_and_one_that_opens_it",
    "tests/redis/test_facts.py::test_ten_thousand_different_errors_leave_no_more_than_five_hundred",
    "tests/system/test_runs.py::test_a_function_that_redis_refuses_for_good_stops_no_other",
    "tests/system/test_runs.py::test_a_thousand_events_on_few_slots_all_complete",
    "tests/system/test_connect.py::test_a_lost_worker_s_call_is_tried_elsewhere_and_steps_that_are_done_are_kept",
    "tests/system/test_connect.py::test_a_worker_keeps_its_call_through_another_connection_and_gateway",
    "tests/system/test_trouble.py",
    "tests/system/test_bounds.py",
    "tests/system/test_memory.py",
    "tests/system/test_search.py::test_a_page_looks_at_ten_thousand_runs_says_so_and_goes_on",
    "tests/system/test_room.py::test_a_worker_waits_while_others_have_the_room_and_then_serves_all",
    "tests/system/test_sdk_reads.py::test_many_runs_are_cancelled_whether_they_have_begun_or_not",
    "tests/system/test_commands.py",
    "tests/system/test_outbox.py",
    "tests/guide/test_retention.py::test_bus_functions_lists_and_refuses_what_it_does_not_know",
    "tests/guide/test_harness.py",
    "tests/guide/test_replay.py",
    "tests/unit/test_clock_changes.py",
)
"""Files, and single tests, that take seconds, most of them waiting: they are begun behind those, and before all others."""
OF_AN_SDK = re.compile(r"tests/sdk/.*[\[-]((?:v\d[\d.]*|py)(?:\+keys)?)[\]-]")
"""Tests of tests/sdk that run in one process, as all of an SDK share an installation: `…[v4.24.0+keys]`."""


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say loudly what could not be run."""
    if REDIS_SERVER is None:
        terminalreporter.write_line(
            "NOT RUN: no redis-server on this machine, so nothing ran on Debian's Redis 7 (apt install redis-server)",
            yellow=True,
            bold=True,
        )
    if NGINX is None:
        terminalreporter.write_line(
            "NOT RUN: no nginx on this machine, so nothing ran behind it (apt install nginx-light)",
            yellow=True,
            bold=True,
        )
    if PROMTOOL is None:
        terminalreporter.write_line(MISSING, yellow=True, bold=True)
    is_chaos = terminalreporter.config.getoption("markexpr") == "chaos"
    if is_chaos and (without := [why for sdk in ("v4.24.0", "py") if (why := missing(sdk))]):
        told = f"NOT RUN: nothing was killed around functions behind HTTP: {'; '.join(without)}"
        terminalreporter.write_line(told, yellow=True, bold=True)
    if LIBRARY is None and is_chaos:
        terminalreporter.write_line(
            "NOT RUN: no libfaketime on this machine, so no server's clock was set (apt install faketime)",
            yellow=True,
            bold=True,
        )


# An example may take as long as the machine makes it: 200 ms were too few beside others.
hypothesis_settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("patient")

# Nobody looks at the tracebacks of logs that tests write; structlog's own colour each line and print all variables.
structlog.dev.ConsoleRenderer.get_active().exception_formatter = structlog.dev.plain_traceback


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return ("asyncio", {"use_uvloop": True})


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test its servers: Valkey, and Debian's Redis 7 as well where the difference matters."""
    if "server_url" in metafunc.fixturenames:
        each = (
            os.environ.get("TEST_SERVERS") == "each"
            or ON_EACH_SERVER in metafunc.definition.path.parents
            or metafunc.definition.get_closest_marker("each_server") is not None
        )
        metafunc.parametrize("server_url", SERVERS if each else SERVERS[:1], indirect=True, scope="session")


@pytest.fixture(scope="session")
def server_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """A server for the session of one process: Valkey from its wheel, or Debian's Redis 7."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "valkey":
        with ValkeyProcess(folder) as valkey:
            yield valkey.url
        return
    port = free_port()
    command = [str(REDIS_SERVER), "--port", str(port), "--dir", str(folder), "--save", "", "--daemonize", "no"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    url = f"redis://127.0.0.1:{port}/0"
    try:
        wait_for_server(url)
        yield url
    finally:
        process.terminate()
        process.wait(PATIENT_S)


def wait_for_server(url: str) -> None:
    until = time.monotonic() + PATIENT_S
    while True:
        try:
            with redis.Redis.from_url(url) as client:
                client.ping()
            return
        except redis.RedisError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)


@functools.cache
def _known() -> re.Pattern[str]:
    """Return what the keys look like that keys.py makes."""
    stand_ins = re.compile(r"<id>|<run>|<status>|%3C(?:id|run|status)%3E|\{[EF]\}")
    made = (make(*given) for make, given in keys.ALL)
    return re.compile("|".join(".*".join(map(re.escape, stand_ins.split(key))) for key in made))


@pytest.fixture(scope="session")
def flushing(server_url: str) -> Generator["redis.Redis"]:
    """One client for all tests on a server: to open a connection costs more than to look at what most of them leave."""
    with redis.Redis.from_url(server_url) as client:
        yield client


@pytest.fixture(scope="session")
def users(flushing: "redis.Redis") -> None:
    """Make the users of docs/operations.md on that server."""
    for user in ("stepstream", "stepstream-check"):
        flushing.execute_command(*acl_rule(user))


@pytest.fixture
def url(request: pytest.FixtureRequest, server_url: str, flushing: "redis.Redis", users: None) -> Generator[str]:
    """The server, empty, in tests/system and tests/guide for the user of docs/operations.md, who may no more than is needed.

    Afterwards every key must be one that keys.py knows, and ended runs must expire.
    """
    flushing.flushall()
    yield logged_in(server_url, "stepstream") if AS_USER & {*request.path.parents} else server_url
    left = [raw for raw in flushing.scan_iter(count=1000) if raw.startswith(b"bus:")]
    for raw in left:
        assert _known().fullmatch(raw.decode()), f"keys.py does not know {raw.decode()}"
    runs = [raw for raw in left if b":run:" in raw]
    looks = flushing.pipeline(transaction=False)
    for raw in runs:
        looks.hget(raw, "status").ttl(raw)
    found = looks.execute(raise_on_error=False)  # a key that is no hash is answered with an error, and is no run
    for raw, status, ttl in zip(runs, found[::2], found[1::2], strict=True):
        ended = status in (b"completed", b"failed", b"cancelled", b"skipped")
        assert not ended or ttl > 0, f"{raw.decode()} has ended and never expires"


@pytest.fixture
def settings(url: str) -> Settings:
    """A short lease, so that tests of its end are short."""
    return Settings(redis_url=url, lease_ms=1_000, drain_ms=3_000, codec=os.environ.get("BUS_CODEC", ""))


@pytest.fixture
def in_environment(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands and applications find that server by themselves, as a user's do."""
    monkeypatch.setenv("BUS_REDIS_URL", url)


@pytest.fixture(scope="session")
def decoding(server_url: str) -> Generator["redis.Redis"]:
    """One client for all tests that use `store`: to make one takes milliseconds of a core."""
    with redis.Redis.from_url(server_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def store(url: str, decoding: "redis.Redis") -> "redis.Redis":
    """A client of that server which is not of ours."""
    return decoding


@pytest.fixture
def http(settings: Settings) -> Generator[TestClient]:
    """A site in a process that has no application."""
    with TestClient(create_app(configured=settings)) as client:
        yield client


@pytest.fixture
async def wire(settings: Settings) -> AsyncGenerator[Wire]:
    opened = Wire(settings, "test")
    yield opened
    await opened.close()


@pytest.fixture
async def admin(settings: Settings, server_url: str) -> AsyncGenerator[Wire]:
    """A wire that may do everything on that server; it is connected once it is asked."""
    opened = Wire(msgspec.structs.replace(settings, redis_url=server_url), "admin")
    yield opened
    await opened.close()


@pytest.fixture
async def checker(settings: Settings) -> AsyncGenerator[Wire]:
    """A wire that may look at every key; it is connected once it is asked."""
    url = logged_in(settings.redis_url, "stepstream-check")
    opened = Wire(msgspec.structs.replace(settings, redis_url=url), "check")
    yield opened
    await opened.close()


@pytest.fixture
async def lab(
    request: pytest.FixtureRequest, settings: Settings, wire: Wire, admin: Wire, checker: Wire
) -> AsyncGenerator[Lab]:
    """An application, workers for it, and eyes on its runs.

    Afterwards every key must belong to something that lives, and all that lives must have its keys, unless the test has
    `@pytest.mark.leaves_behind(why)`.
    """
    async with AsyncExitStack() as stack:
        app = Bus("test")
        app.connect(wire)
        yield Lab(app, settings, wire, stack, admin, checker)
    if request.node.get_closest_marker("leaves_behind") is None:
        await nothing_is_left(checker)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Bound each async test; those that kill processes may take longer.

    Not in the fixture, nor by a scope of anyio's: those cancel the task that fixtures end in, too, and pytest hangs.
    """
    if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
        most_s = CHAOS_MOST_S if item.get_closest_marker("chaos") else MOST_S
        test: Callable[..., Awaitable[None]] = item.obj

        @functools.wraps(test)
        async def bounded(*args: Any, **given: Any) -> None:
            async with asyncio.timeout(most_s):
                await test(*args, **given)

        item.obj = bounded


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import what is deselected as a whole folder: each process of `make test` would."""
    mark = ALL_MARKED.get(collection_path.name) if collection_path.parent == HERE else None
    wanted: str = config.getoption("markexpr")
    gate = wanted if wanted in GATES else mark
    return True if mark is not None and (f"not {mark}" in wanted or mark != gate) else None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--forks", type=int, default=0, metavar="N", help="run the tests in N processes (make test does)")


def pytest_configure(config: pytest.Config) -> None:
    """Collect no garbage while tests are collected: nearly all that is made stays."""
    gc.disable()
    if count := config.getoption("forks"):
        forks.begin()  # while tests are collected
        config.pluginmanager.register(SideBySide(count, group_of, FIRST))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Nor look through what stands to the end each time that garbage is collected: it is most of what there is."""
    if session.config.getoption("forks") and not session.config.option.collectonly:
        importlib.import_module("tests.imported")  # once, and not in each fork when it first needs it
    gc.freeze()
    gc.enable()


def group_of(nodeid: str) -> str:
    """Return the name of the tests that run in one process with this one, which is its own where it runs by itself."""
    if found := OF_AN_SDK.match(nodeid):
        return found[1]
    test = nodeid.partition("[")[0]
    return TOGETHER.get(test) or TOGETHER.get(test.partition("::")[0], nodeid)


async def nothing_is_left(checker: Wire) -> None:
    left = await standing(checker)
    assert not left, "left behind:\n" + "\n".join(f"{fault.key} {fault.words}" for fault in left)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path
