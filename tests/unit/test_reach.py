"""Reach: in keys mode apps are called where they may be, by the address that is connected to."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from typing import Any

import anyio
import httpx2
import pytest

from stepstream.bus.settings import Settings
from stepstream.consumers.remote.calls.reach import client, refusal

KEY = "a" * 64


class Listening:
    """A server that counts who connects, and answers 200, or what `answer` says."""

    def __init__(self) -> None:
        self.port = 0
        self.connected = 0
        self.answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connected += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self.answer)
        await writer.drain()
        writer.close()


@pytest.fixture
async def app() -> AsyncGenerator[Listening]:
    listening = Listening()
    server = await asyncio.start_server(listening.serve, "127.0.0.1", 0)
    listening.port = server.sockets[0].getsockname()[1]
    async with server:
        yield listening


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What names mean; others are resolved by the system."""
    known: dict[str, list[str]] = {}
    system = anyio.getaddrinfo

    async def resolved(host: Any, port: Any, **more: Any) -> Any:
        return [one for address in known.get(host, [host]) for one in await system(address, port, **more)]

    monkeypatch.setattr(anyio, "getaddrinfo", resolved)
    return known


def keyed(*hosts: str) -> Settings:
    return Settings(signing_key=KEY, app_hosts=hosts)


async def asked(settings: Settings, url: str) -> int:
    async with client(settings, 5.0) as http:
        return (await http.get(url)).status_code


async def test_without_keys_everything_is_called(app: Listening) -> None:
    for host in ("127.0.0.1", "localhost"):
        url = f"http://{host}:{app.port}/"
        assert await refusal(Settings(), url) == ""
        assert await asked(Settings(), url) == 200
    assert app.connected == 2


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "[::1]", "[::ffff:127.0.0.1]", "0"]
)
async def test_this_machine_is_not_called_however_it_is_written(app: Listening, host: str) -> None:
    url = f"http://{host}:{app.port}/"
    for settings in (keyed(), keyed("*.example"), keyed("10.0.0.0/8")):
        assert await refusal(settings, url)
        with pytest.raises(httpx2.ConnectError):
            await asked(settings, url)
    assert app.connected == 0


async def test_this_machine_is_called_where_it_is_named(app: Listening) -> None:
    for settings, host in (
        (keyed("localhost"), "localhost"),
        (keyed("127.0.0.0/8"), "127.0.0.1"),
        (keyed("localhost"), "127.0.0.1"),
    ):
        url = f"http://{host}:{app.port}/"
        assert await refusal(settings, url) == ""
        assert await asked(settings, url) == 200


async def test_a_name_that_has_come_to_mean_another_address_is_not_called(
    app: Listening, names: dict[str, list[str]]
) -> None:
    settings, url = keyed("app.example"), f"http://app.example:{app.port}/"
    names["app.example"] = ["93.184.216.34"]
    assert await refusal(settings, url) == ""
    for address in ("127.0.0.1", "169.254.169.254", "fe80::1"):
        for several in ([address], ["93.184.216.34", address], [address, "93.184.216.34"]):
            names["app.example"] = several
            assert "app.example" in await refusal(settings, url)
            with pytest.raises(httpx2.ConnectError, match=r"this machine|never called"):
                await asked(settings, url)
    assert app.connected == 0


async def test_the_next_address_of_a_name_is_tried_where_one_does_not_answer(
    app: Listening, names: dict[str, list[str]]
) -> None:
    names["app.example"] = ["::1", "127.0.0.2", "127.0.0.1"]
    assert await asked(keyed("app.example", "127.0.0.0/8", "::1"), f"http://app.example:{app.port}/") == 200


async def test_a_redirect_is_not_followed_and_a_request_for_where_it_leads_is_refused(app: Listening) -> None:
    app.answer = b"HTTP/1.1 307 Moved\r\nlocation: http://169.254.169.254/latest\r\ncontent-length: 0\r\n\r\n"
    settings = keyed("localhost", "0.0.0.0/0")
    assert await asked(settings, f"http://localhost:{app.port}/") == 307
    async with client(settings, 5.0) as http:
        with pytest.raises(httpx2.ConnectError, match="never called"):
            await http.get(f"http://localhost:{app.port}/", follow_redirects=True)


async def test_a_name_that_means_nothing_is_told_and_is_no_reason_to_refuse_a_registration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def nothing(*_args: Any, **_more: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(anyio, "getaddrinfo", nothing)
    assert await refusal(keyed(), "http://nowhere.example/") == ""
    with pytest.raises(httpx2.ConnectError, match=r"nowhere.example means nothing here"):
        await asked(keyed(), "http://nowhere.example/")


async def test_requests_that_an_app_leaves_to_us_go_anywhere_but_to_this_machine(app: Listening) -> None:
    async with client(keyed("localhost"), 5.0, anywhere=True) as http:
        with pytest.raises(httpx2.ConnectError, match="this machine"):
            await http.get(f"http://localhost:{app.port}/")
    async with client(Settings(), 5.0, anywhere=True) as http:
        assert (await http.get(f"http://localhost:{app.port}/")).status_code == 200


@pytest.mark.parametrize("settings", [Settings(), keyed("127.0.0.1", "localhost")], ids=["anywhere", "bounded"])
async def test_a_machine_that_vanishes_is_noticed_before_two_hours_are_over(app: Listening, settings: Settings) -> None:
    async with client(settings, 5) as http, http.stream("POST", f"http://127.0.0.1:{app.port}/") as answer:
        connected = answer.extensions["network_stream"].get_extra_info("socket")
        assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
