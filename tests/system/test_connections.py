"""Connections to a site: how many may be open, how long a request may take to arrive, and what is told of it."""

import asyncio
import contextlib
import http.client
import json
import os
import resource
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import cast

import pytest
import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect

from stepstream.producers.body import bounds_its_body
from stepstream.web.serving.connections import BoundedWebSocket, Bounds, Connections
from tests.support import eventually, free_port, until


class Listening:
    """A site with few connections, and clients that write what they like."""

    def __init__(self, bounds: Bounds, kept_s: float = 5) -> None:
        self.port = free_port()
        self.release = asyncio.Event()
        self.connections = Connections(bounds)
        self.arrived = 0
        self._opened: list[asyncio.StreamWriter] = []
        self._server = uvicorn.Server(
            uvicorn.Config(
                Starlette(
                    routes=[
                        Route("/health", self._answer),
                        Route("/now", self._answer),
                        Route("/body", self._body, methods=["POST"]),
                        Route("/work", self._work),
                        Route("/large", self._large),
                        Route("/bounded", self._bounded, methods=["POST"]),
                        WebSocketRoute("/socket", self._socket),
                    ]
                ),
                http=self.connections.protocol(),
                ws=BoundedWebSocket,
                port=self.port,
                log_level="error",
                timeout_graceful_shutdown=1,
                timeout_keep_alive=kept_s,  # type: ignore[arg-type]  # it is handed to call_later
            )
        )
        self._server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]

    async def __aenter__(self) -> "Listening":
        self._serving = asyncio.create_task(self._server.serve())

        async def started() -> bool:
            return self._server.started

        await eventually(started, "the server listens")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release.set()
        for writer in self._opened:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        self._server.should_exit = True
        await self._serving

    async def _answer(self, request: Request) -> Response:
        return JSONResponse("answered")

    async def _body(self, request: Request) -> Response:
        return JSONResponse(len(await request.body()))

    async def _large(self, request: Request) -> Response:
        return Response(bytes(int(request.query_params["bytes"])))

    async def _bounded(self, request: Request) -> Response:
        bounds_its_body(request.scope)
        return await self._body(request)

    async def _work(self, request: Request) -> Response:
        self.arrived += 1
        await self.release.wait()
        return JSONResponse("worked")

    async def _socket(self, socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(await socket.receive_text())
        await self.release.wait()

    @property
    def held(self) -> int:
        return len(self._server.server_state.connections)

    async def client(self, text: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._opened.append(writer)
        writer.write(text)
        return reader, writer

    async def takes_nothing(self, *lengths: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Ask for answers of so many bytes, and leave them where they are; the kernel keeps few KiB of them."""
        for listening in self._server.servers:
            for one in listening.sockets:
                with socket.socket(fileno=os.dup(one.fileno())) as same:
                    same.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        opened = socket.socket()
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        opened.setblocking(False)
        await asyncio.get_running_loop().sock_connect(opened, ("127.0.0.1", self.port))
        reader, writer = await asyncio.open_connection(sock=opened)
        self._opened.append(writer)
        cast("asyncio.Transport", writer.transport).pause_reading()
        answered = self._server.server_state.total_requests
        for length in lengths:
            writer.write(get(f"/large?bytes={length}"))

        async def begun() -> bool:
            return self._server.server_state.total_requests > answered

        await eventually(begun, "the first is answered")
        return reader, writer

    async def at_work(self, number: int) -> list[asyncio.StreamWriter]:
        """Open connections, each with a request that is answered when the test ends."""
        opened = [(await self.client(get("/work")))[1] for _ in range(number)]

        async def all_arrived() -> bool:
            return self.arrived >= number

        await eventually(all_arrived, "all requests are at work")
        return opened


def get(path: str, more: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: here\r\n{more}\r\n".encode()


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Return the next answer on a connection."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): text.strip() for name, _, text in (line.partition(":") for line in head[1:] if line)}
    return int(head[0].split(" ")[1]), headers, await reader.readexactly(int(headers["content-length"]))


@pytest.fixture
async def full() -> AsyncGenerator[Listening]:
    async with Listening(Bounds(4, spare=2)) as listening:
        yield listening


async def test_a_new_connection_closes_the_one_that_has_waited_longest(full: Listening) -> None:
    waiting = [await full.client(get("/now")) for _ in range(4)]
    for reader, _ in waiting:
        await answer(reader)
    waiting[0][1].write(get("/now"))  # the first is the last to have asked
    await answer(waiting[0][0])
    reader, _ = await full.client(get("/now"))
    assert (await answer(reader))[0] == 200
    assert await waiting[1][0].read() == b""
    for reader, writer in (waiting[0], waiting[2], waiting[3]):
        writer.write(get("/now"))
        assert (await answer(reader))[0] == 200


async def test_a_request_at_work_is_never_closed_for_another(full: Listening) -> None:
    working = [await full.client(get("/work")) for _ in range(3)]
    for _ in range(12):
        reader, _ = await full.client(get("/now"))
        assert (await answer(reader))[0] == 200
    full.release.set()
    assert [(await answer(reader))[0] for reader, _ in working] == [200, 200, 200]


@pytest.mark.parametrize("lengths", [(40_000,), (40_000, 4_000_000)], ids=["its last answer", "its next answer"])
async def test_an_answer_that_is_on_its_way_is_never_cut_for_another(full: Listening, lengths: tuple[int, ...]) -> None:
    slow, its = await full.takes_nothing(*lengths)
    waiting = [await full.client(get("/now")) for _ in range(4)]
    for reader, _ in waiting:
        assert (await answer(reader))[0] == 200
    cast("asyncio.Transport", its.transport).resume_reading()
    for length in lengths:
        assert len((await answer(slow))[2]) == length
    assert await waiting[0][0].read() == b""


async def test_while_all_are_at_work_health_answers_and_the_rest_hears_when_to_try_again(full: Listening) -> None:
    await full.at_work(4)
    for path, status in (("/health", 200), ("/now", 503), ("/health", 200)):
        reader, _ = await full.client(get(path))
        found, headers, body = await answer(reader)
        assert (found, headers["connection"]) == (status, "close")
        assert status == 200 or (headers["retry-after"], json.loads(body)["status"]) == ("1", 503)
        assert await reader.read() == b"", "it leaves its place"


async def test_who_sends_nothing_does_not_keep_health_from_answering_while_all_are_at_work(full: Listening) -> None:
    await full.at_work(4)
    silent = [await full.client() for _ in range(20)]
    reader, _ = await full.client(get("/health"))
    assert (await answer(reader))[0] == 200
    assert await silent[0][0].read() == b""


async def test_an_open_websocket_counts_and_goes_on(full: Listening) -> None:
    async with connect(f"ws://127.0.0.1:{full.port}/socket") as first, connect(f"ws://127.0.0.1:{full.port}/socket"):
        await full.at_work(2)
        reader, _ = await full.client(get("/now"))
        assert (await answer(reader))[0] == 503
        await first.send("on")
        assert await first.recv() == "on"
        reader, _ = await full.client(
            get("/socket", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n")
        )
        assert (await answer(reader))[0] == 503
    reader, _ = await full.client(get("/now"))
    assert (await answer(reader))[0] == 200, "a closed one counts no more"


async def test_that_it_is_full_is_told_once_and_that_it_is_over_once(full: Listening) -> None:
    with structlog.testing.capture_logs() as told:
        clients = [await full.client(get("/now")) for _ in range(9)]
        for reader, _ in clients[-4:]:
            await answer(reader)
        for _, writer in clients:
            writer.close()

        async def over() -> bool:
            return len(told) > 1

        await eventually(over, "it is said that it is over")
        reader, _ = await full.client(get("/now"))
        await answer(reader)
    assert [(one["log_level"], one["most"]) for one in told] == [("warning", 4), ("info", 4)]
    assert "BUS_MAX_CONNECTIONS" in told[0]["event"]


@pytest.fixture
async def hurried() -> AsyncGenerator[Listening]:
    async with Listening(Bounds(100, header_s=0.3, body_s=0.3, taken_s=0.3), kept_s=0.3) as listening:
        yield listening


async def drip(writer: asyncio.StreamWriter, letters: bytes) -> None:
    """Write a byte every 20 ms until the other side has closed."""
    with contextlib.suppress(ConnectionError):
        for n in range(1_000):
            if writer.is_closing():
                return
            writer.write(letters[n % len(letters) :][:1])
            await writer.drain()
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("begun", "dripped", "what"),
    [
        (b"GET /now HTTP/1.1\r\nX: ", b"a", "header"),
        (get("/now") + b"GET /now HTTP/1.1\r\nX: ", b"a", "header"),
        (b"POST /body HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n\r\n", b"a", "body"),
        (b"POST /body HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n", "body"),
    ],
    ids=["header", "second header", "body", "chunks"],
)
async def test_a_request_that_arrives_a_byte_at_a_time_is_given_up(
    hurried: Listening, begun: bytes, dripped: bytes, what: str
) -> None:
    reader, writer = await hurried.client(begun)
    dripping = asyncio.create_task(drip(writer, dripped))
    status, headers, body = await answer(reader)
    if status == 200:
        status, headers, body = await answer(reader)
    assert (status, headers["connection"]) == (408, "close")
    assert what in json.loads(body)["error"]
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    await dripping


async def test_a_client_that_says_nothing_is_closed_without_a_word(hurried: Listening) -> None:
    reader, _ = await hurried.client()
    assert await reader.read() == b""


async def test_who_waits_for_a_long_answer_is_not_hurried(hurried: Listening) -> None:
    reader, _ = await hurried.client(get("/work"))
    slow, _ = await hurried.client()
    assert await slow.read() == b"", "the time is over"
    hurried.release.set()
    assert (await answer(reader))[0] == 200


@pytest.mark.parametrize("lengths", [(40_000,), (40_000, 4_000_000)], ids=["while it is idle", "while it is at work"])
async def test_who_does_not_take_an_answer_is_cut_off(hurried: Listening, lengths: tuple[int, ...]) -> None:
    await hurried.takes_nothing(*lengths)

    async def gone() -> bool:
        return hurried.held == 0

    await eventually(gone, "it is closed")


async def test_a_body_that_has_bounds_of_its_own_is_not_hurried(hurried: Listening) -> None:
    begun = b"POST /%s HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\n\r\na"
    reader, writer = await hurried.client(begun % b"bounded")
    hurried_too, _ = await hurried.client(begun % b"body")
    assert (await answer(hurried_too))[0] == 408, "the time is over"
    writer.write(b"b")
    assert (await answer(reader))[2] == b"2"


async def test_a_body_in_two_parts_and_a_second_request_behind_it_are_answered(hurried: Listening) -> None:
    reader, writer = await hurried.client(b"POST /body HTTP/1.1\r\nHost: here\r\nContent-Length: 4\r\n\r\nab")
    await writer.drain()
    writer.write(b"cd" + get("/now"))
    assert [(await answer(reader))[2] for _ in range(2)] == [b"4", b'"answered"']


IDLE = """
    import resource, socket, sys

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    opened = []
    for n in range(10_000):
        one = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
        if n % 10 == 0:
            one.sendall(b"GET /health HTTP/1.1\\r\\nX: ")
        opened.append(one)
    print("opened", flush=True)
    sys.stdin.read()
"""
"""Opens 10,000 connections and keeps them; a tenth of them has begun a header."""


@pytest.mark.process
def test_ten_thousand_idle_connections_are_bounded_and_told_once_and_health_answers(tmp_path: Path, url: str) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < 10_500:
        pytest.skip(f"this machine lets a process open {most} files; the test opens 10,000 connections")
    port, environ = free_port(), {**os.environ, "BUS_REDIS_URL": url, "BUS_LOG_FORMAT": "json"}
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((tmp_path / "log").open("w+"))
        site = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "stepstream", "serve", "--port", str(port)], env=environ, stderr=log
            )
        )
        stack.callback(site.terminate)
        until(lambda: health(port), "the site listens")
        clients = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", textwrap.dedent(IDLE), str(port)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        stack.callback(clients.kill)
        assert clients.stdout is not None
        assert clients.stdout.readline() == "opened\n"
        assert health(port)
        descriptors = Path(f"/proc/{site.pid}/fd")
        held = 0
        for one in descriptors.iterdir():
            with contextlib.suppress(FileNotFoundError):  # that of who has just asked for /health is being closed
                held += os.readlink(one).startswith("socket:")
        assert 1_900 < held < 2_100
        log.seek(0)
        told = [json.loads(line) for line in log if "connections" in line]
        assert [one["most"] for one in told] == [2_000]
        assert told[0]["level"] == "warning"


def health(port: int) -> bool:
    """Whether a site answers that it is up."""
    with contextlib.suppress(OSError), contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, 5)) as asked:
        asked.request("GET", "/health")
        return asked.getresponse().status == 200
    return False


def test_a_limit_of_files_that_is_too_low_is_told_with_the_way_out() -> None:
    asking = """
        import resource
        from stepstream.web.serving.connections import too_few_files

        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
        print(too_few_files(500), too_few_files(2000), sep="\\n")
    """
    command = [sys.executable, "-c", textwrap.dedent(asking)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert told[0] == ""
    assert "may open 1024 files, and BUS_MAX_CONNECTIONS=2000 needs 2256" in told[1]
    assert "ulimit -Hn" in told[1]
