"""Fixtures of tests/sdk: each SDK has an installation of its own for the whole session, and its tests share it."""

import os
import threading
from collections.abc import Generator
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.forks import bus
from tests.sdk.sdks import HAS_NODE, NOT_RUN, SDKS, missing
from tests.sdk.stack import KEYS, Stack, until
from tests.support import free_port


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test its SDKs, all unless it names those that have what it is about, and with keys and without.

    SDK_CORE=1, as in CI: with keys only those that are marked `keys` or `both`.
    """
    find = metafunc.definition.get_closest_marker
    marked = find("sdks")
    wanted = [sdk for sdk in SDKS if marked is None or sdk.startswith(tuple(marked.args))]
    if "sdk" in metafunc.fixturenames:  # by those that start an installation of their own
        metafunc.parametrize("sdk", wanted, scope="session")
    if "installed" in metafunc.fixturenames:
        keyed = [f"{sdk}{KEYS}" for sdk in wanted]
        is_core = os.environ.get("SDK_CORE") == "1" and find("both") is None
        several = keyed if find("keys") else wanted if is_core or find("keyless") else wanted + keyed
        metafunc.parametrize("installed", several, scope="session")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say loudly what could not be tried."""
    if not HAS_NODE:
        terminalreporter.write_line(NOT_RUN, yellow=True, bold=True)


@pytest.fixture(scope="session")
def _stacks(tmp_path_factory: pytest.TempPathFactory) -> Generator[dict[str, Stack]]:
    stacks: dict[str, Stack] = {}
    yield stacks
    for stack in stacks.values():
        stack.stop()


@pytest.fixture
def stack(installed: str, _stacks: dict[str, Stack], tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """The installation of an SDK, with keys or without; its application has the keys that it began with."""
    if why := missing(installed.removesuffix(KEYS)):
        pytest.skip(why)
    if installed not in _stacks:
        _stacks[installed] = Stack(installed, tmp_path_factory.mktemp(installed))
        _stacks[installed].start()
    return _stacks[installed]


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_left(_stacks: dict[str, Stack]) -> Generator[None]:
    """`bus check` finds nothing at the end of each file."""
    yield
    for stack in _stacks.values():
        if stack.site is not None:
            done = bus("check", env=stack.given)
            assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def provider() -> Generator[str]:
    """A server that a function may have called: it answers as an AI provider does, or with what it was asked."""

    async def echo(request: Request) -> Response:
        body = (await request.body()).decode()
        return JSONResponse({"body": body, "headers": dict(request.headers)}, 201)

    async def chat(request: Request) -> Response:
        asked = await request.json()
        words = f"{asked['model']} says: {asked['messages'][0]['content']}, to {request.headers['authorization']}"
        return JSONResponse({"choices": [{"message": {"role": "assistant", "content": words}}]})

    async def broken(request: Request) -> Response:
        return JSONResponse({"error": "overloaded"}, 500)

    site = Starlette(
        routes=[
            Route("/echo", echo, methods=["POST"]),
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/broken/chat/completions", broken, methods=["POST"]),
        ]
    )
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(site, port=port, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started, "the provider answers")
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)
