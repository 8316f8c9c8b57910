"""Post: a request to an app over a connection that was kept."""

import asyncio
import socket
import threading
from collections.abc import AsyncGenerator, ItemsView

import pytest

from stepstream.bus.settings import Settings
from stepstream.consumers.remote.calls import opening
from stepstream.consumers.remote.calls.post import CallBroken, Post, Unreachable
from stepstream.consumers.remote.protocol import BadAnswer

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Closing(threading.Thread):
    """A server that answers one request on each connection, and closes it when it is told to, without a word."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}/"
        self.may_close, self.has_closed = threading.Event(), threading.Event()
        self.answered = 0

    def run(self) -> None:
        for _ in range(2):
            connection, _ = self.listening.accept()
            with connection:
                while b"{}" not in connection.recv(65_536):
                    pass
                self.answered += 1
                connection.sendall(ANSWER)
                self.may_close.wait(10)
            self.has_closed.set()
        self.listening.close()


class ClosedMeanwhile(dict[str, str]):
    """Headers of a request; while they are read, and the loop sees nothing, the server closes the kept connection."""

    def __init__(self, server: Closing) -> None:
        super().__init__({"content-type": "application/json"})
        self._server = server

    def items(self) -> ItemsView[str, str]:
        self._server.may_close.set()
        assert self._server.has_closed.wait(10)
        return super().items()


async def test_a_kept_connection_that_closes_as_it_is_used_again_loses_no_call() -> None:
    server = Closing()
    server.start()
    post = Post(Settings(), 10)
    try:
        assert (await post.post(server.url, b"{}", {}, 10)).body == b"ok"
        assert (await post.post(server.url, b"{}", ClosedMeanwhile(server), 10)).body == b"ok"
        assert server.answered == 2
    finally:
        await post.close()
        server.may_close.set()
        server.join(10)


async def _counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer how long a body was."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    body = await reader.readexactly(int(length.partition(b":")[2]))
    writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n%d" % len(body))
    await writer.drain()
    writer.close()


@pytest.fixture
async def port() -> AsyncGenerator[int]:
    server = await asyncio.start_server(_counted, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_a_large_body_comes_whole(port: int) -> None:
    post = Post(Settings(), 10)
    try:
        for length in (0, 1_048_576, 3_000_001):
            answer = await post.post(f"http://localhost:{port}/", b"x" * length, {}, 10)
            assert answer.body == str(length).encode()
    finally:
        await post.close()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "[::1]", "[::ffff:127.0.0.1]", "0"]
)
async def test_in_keys_mode_this_machine_is_not_called_however_it_is_written(port: int, host: str) -> None:
    for hosts in ((), ("*.example",), ("10.0.0.0/8",)):
        post = Post(Settings(signing_key="a" * 64, app_hosts=hosts), 10)
        try:
            with pytest.raises((Unreachable, BadAnswer)):
                await post.post(f"http://{host}:{port}/", b"{}", {}, 10)
        finally:
            await post.close()
    post = Post(Settings(signing_key="a" * 64, app_hosts=("127.0.0.0/8",)), 10)
    try:
        assert (await post.post(f"http://127.0.0.1:{port}/", b"{}", {}, 10)).status == 200
    finally:
        await post.close()


class Busy:
    """A server that answers nobody until it has so many callers at once, or all of them."""

    def __init__(self, at_once: int, calls: int) -> None:
        self.at_once, self.calls = at_once, calls
        self.held: list[asyncio.StreamWriter] = []
        self.came = self.most = 0

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Keep a caller waiting."""
        await reader.readuntil(b"\r\n\r\n")
        self.held.append(writer)
        self.came += 1
        self.most = max(self.most, len(self.held))
        if len(self.held) == self.at_once or self.came == self.calls:
            for _ in range(20):  # whoever comes as well is counted
                await asyncio.sleep(0.002)
            held, self.held = self.held, []
            for one in held:
                one.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok")
                one.close()


async def _called_at_once(busy: Busy) -> list[bytes]:
    server, post = await asyncio.start_server(busy.take, "127.0.0.1", 0, backlog=busy.calls), Post(Settings(), 60)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    try:
        async with server:
            answers = await asyncio.gather(*(post.post(url, b"", {}, 60) for _ in range(busy.calls)))
            return [answer.body for answer in answers]
    finally:
        await post.close()


async def test_a_burst_of_calls_does_not_overflow_the_queue_in_which_an_app_listens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(opening, "ACCEPTED_AFTER_S", 3_600)
    busy = Busy(opening.OPENED_AT_ONCE, 200)
    assert await _called_at_once(busy) == [b"ok"] * 200
    assert busy.most == opening.OPENED_AT_ONCE


async def test_calls_that_take_long_are_all_open_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "ACCEPTED_AFTER_S", 0.001)
    busy = Busy(200, 200)
    assert await _called_at_once(busy) == [b"ok"] * 200
    assert busy.most == 200


async def test_connections_that_do_not_come_about_take_no_other_s_turn() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        url = f"http://127.0.0.1:{gone.getsockname()[1]}/"
    post = Post(Settings(), 60)
    try:
        calls = (post.post(url, b"", {}, 60) for _ in range(3 * opening.OPENED_AT_ONCE))
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(answer) for answer in answers} == {Unreachable}
    finally:
        await post.close()


async def _answered(*parts: bytes) -> bytes:
    """Return the body of an answer whose parts come one after another; after it HTTP/1.0 closes, and 1.1 waits."""
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.02)
        if b"HTTP/1.0" not in parts[0]:
            await reader.read()
        writer.close()
        over.set()

    server, post = await asyncio.start_server(serve, "127.0.0.1", 0), Post(Settings(), 60)
    async with server:
        try:
            return (await post.post(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", b"", {}, 60)).body
        finally:
            await post.close()
            await over.wait()


_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("parts", [(_CHUNKED, b"{}"), (_CHUNKED, b"2\r\n{}\r\nzz"), (_CHUNKED + b"{}",)])
async def test_a_call_whose_answer_cannot_be_read_on_does_not_wait_for_more(parts: tuple[bytes, ...]) -> None:
    with pytest.raises(CallBroken, match=r"did not come whole: .*chunk size"):
        await _answered(*parts)


@pytest.mark.parametrize("parts", [(b"  {", b"}"), (b"  {}",), ()])
async def test_a_proxy_that_speaks_http_1_0_may_hand_on_a_header_of_1_1(parts: tuple[bytes, ...]) -> None:
    body = await _answered(_CHUNKED.replace(b"1.1", b"1.0") + b"".join(parts[:1]), *parts[1:])
    assert body == b"".join(parts).strip()
