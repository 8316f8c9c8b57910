"""What an application behind HTTP may answer, byte by byte: each is a clear error of its run, and nothing else stands still."""

import asyncio
import gzip
import html
import json
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
from starlette.responses import Response
from starlette.testclient import TestClient

from stepstream import create_app
from stepstream.bus.settings import Settings
from stepstream.checkpoint.actions.cancel import cancel_now
from stepstream.checkpoint.apps import App
from stepstream.consumers.remote.calls.client import Client, Unreachable
from stepstream.consumers.remote.functions import RemoteBus, bus_of
from stepstream.consumers.remote.protocol import Answer as Given
from stepstream.consumers.remote.protocol import ops_of
from tests.scripted_app import Told, op, returned, serving
from tests.support import Lab, eventually, free_port

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]
_SDK = b"x-inngest-sdk: inngest-js:v4.24.0\r\n"
_NO_RETRY = b"x-inngest-no-retry: true\r\n"
_CHUNKED = b"transfer-encoding: chunked\r\n"


class RawApp:
    """Answers each call with the bytes that are listed for its event's `case`; counts who hangs up."""

    def __init__(self, cases: dict[str, Answer]) -> None:
        self.cases = cases
        self.port = free_port()
        self.open = 0

    async def called(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            body = json.loads(await reader.readexactly(int(length.partition(b":")[2])))
            await self.cases[body["event"]["data"]["case"]](writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the worker has hung up
        finally:
            self.open -= 1
            writer.close()

    def bus(self, retries: int = 0) -> RemoteBus:
        url = f"http://127.0.0.1:{self.port}/api/inngest"
        config = {
            "id": "shop-f",
            "triggers": [{"event": "order/paid"}],
            "steps": {"step": {"retries": {"attempts": retries}, "runtime": {"url": f"{url}?fnId=shop-f"}}},
        }
        return bus_of(App(name="shop", url=url, sdk="js:v4.24.0", functions={"shop-f": config}))


@asynccontextmanager
async def answering(**cases: Answer) -> AsyncGenerator[RawApp]:
    app = RawApp(cases)
    server = await asyncio.start_server(app.called, "127.0.0.1", app.port)
    try:
        yield app
    finally:
        server.close()


async def _written(head: bytes, given: bytes | Callable[[], bytes], writer: asyncio.StreamWriter) -> None:
    body = given if isinstance(given, bytes) else given()
    writer.write(b"HTTP/1.1 " + head + b"content-length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()


def whole(status: bytes, body: bytes | Callable[[], bytes], *headers: bytes) -> Answer:
    return partial(_written, status + b"\r\n" + b"".join(headers), body)


def endless(head: bytes, part: bytes, pause_s: float = 0) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 " + head)
        while not writer.is_closing():
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)

    return answer


def cut(said: bytes) -> Answer:
    """Part of an answer, then the connection is reset."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()
        writer.transport.abort()

    return answer


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def bomb(of: bytes, megabytes: int) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return b"".join(packer.compress(of * 2**20) for _ in range(megabytes)) + packer.flush()


_DEEP = b"[" * 100_000 + b"]" * 100_000
_GZIP = b"content-encoding: gzip\r\n"
CASES: dict[str, tuple[Answer, str]] = {
    "garbage": (cut(b"\x16\x03\x01 garbage\r\n\r\n"), "Bad status line"),
    "nothing": (cut(b""), "the answer did not come whole"),
    "HTML": (whole(b"200 OK", b"<html>welcome to nginx</html>"), "is not an SDK"),
    "HTML of an error": (whole(b"500 No", b"<html>oh no</html>"), "<html>oh no</html>"),
    "no content": (whole(b"204 No", b"", _SDK), "status 204"),
    "301": (whole(b"301 Moved", b"", b"location: https://elsewhere.example/\r\n"), "status 301"),
    "redirect to nonsense": (whole(b"307 Moved", b"", b"location: http://[::1\r\n"), "redirects to no address"),
    "redirect in a circle": (whole(b"308 Moved", b"", b"location: /" + b"a" * 9_000 + b"\r\n"), "more than 3 redirects"),
    "30 MB": (whole(b"200 OK", lambda: b"x" * 30_000_000, _SDK), "output_too_large"),
    "endless chunks": (endless(b"200 OK\r\n" + _SDK + _CHUNKED + b"\r\n", chunk(b"1" * 65_536)), "output_too_large"),
    "endless white space": (
        endless(b"201 Created\r\n" + _SDK + _CHUNKED + b"\r\n", chunk(b" " * 65_536)), "output_too_large",
    ),
    "endless headers": (endless(b"200 OK\r\n" + _SDK, b"x-more: " + b"y" * 9_000 + b"\r\n"), "Too many headers"),
    "an endless header": (endless(b"200 OK\r\nx-more: ", b"y" * 9_000), "Got more than 65536 bytes"),
    "half a body": (cut(b"HTTP/1.1 200 OK\r\n" + _SDK + b"content-length: 99\r\n\r\n[1,2"), "did not come whole"),
    "half a header": (cut(b"HTTP/1.1 200 OK\r\nx-inn"), "did not come whole"),
    "gzip bomb": (whole(b"200 OK", lambda: bomb(b"x", 12), _SDK, _GZIP), "output_too_large"),
    "gzip bomb of white space": (whole(b"201 OK", lambda: bomb(b" ", 12), _SDK, _GZIP), "output_too_large"),
    "gzip in gzip": (
        whole(b"200 OK", lambda: gzip.compress(bomb(b"x", 12)), _SDK, b"content-encoding: gzip, gzip\r\n"), "not UTF-8",
    ),
    "gzip that is none": (whole(b"200 OK", b"{}", _SDK, _GZIP), "Can not decode content-encoding"),
    "invalid UTF-8": (whole(b"200 OK", b'"\xff"', _SDK), "not UTF-8"),
    "invalid UTF-8 in an error": (
        whole(b"400 No", b'{"message":"boom","cause":"\xff"}', _SDK, _NO_RETRY), "boom",
    ),
    "deep JSON": (whole(b"200 OK", _DEEP, _SDK), "nested deeper than 64"),
    "deep JSON in a step": (whole(b"206 Ops", b'[{"op":"StepRun","id":"","data":' + _DEEP + b"}]", _SDK), "nested deeper"),
    "deep JSON in an error": (whole(b"400 No", b'{"message":"boom","cause":' + _DEEP + b"}", _SDK, _NO_RETRY), "boom"),
    "deep JSON in a stream": (whole(b"201 OK", b'{"status":200,"body":' + _DEEP + b"}", _SDK), "nested too deep"),
    "a status that is none": (whole(b"201 OK", b'{"status":7e9,"body":null}', _SDK), "ends in no answer"),
    "a version that is none": (
        whole(b"206 Ops", b'{"op":"None","id":""}', _SDK, b"x-inngest-req-version: " + b"9" * 5_000 + b"\r\n"),
        "nothing to do",
    ),
    "an id that is no hash": (whole(b"206 Ops", b'[{"op":"StepRun","id":"a|b"}]', _SDK), "must be the SHA-1"),
}  # fmt: skip


async def test_whatever_an_app_answers_is_a_clear_error_of_its_run_and_its_page(lab: Lab) -> None:
    async with answering(
        **{name: answer for name, (answer, _) in CASES.items()},
        silent=endless(b"200 OK\r\n" + _SDK + _CHUNKED + b"\r\n", chunk(b"1"), pause_s=0.1),
        good=whole(b"200 OK", b"1", _SDK),
    ) as app:
        lab.app = app.bus()
        await lab.work(concurrency=len(CASES) + 2)
        await lab.send("order/paid", {"case": "silent"})
        for name in CASES:
            await lab.send("order/paid", {"case": name})

        async def all_but_one() -> bool:
            return [run.has_ended for run in await lab.runs()].count(True) == len(CASES)

        await eventually(all_but_one, "each run but the slow one has ended")
        await lab.send("order/paid", {"case": "good"})
        runs = {json.loads(bytes(run.event or b""))["data"]["case"]: run for run in await lab.runs()}
        with TestClient(create_app(configured=lab.settings)) as site:
            for name, (_, told) in CASES.items():
                error = runs[name].error
                assert error is not None, name
                assert told in error.told(), (name, error.told())
                assert len(error.told()) < 9_000, name
                assert html.escape(told) in site.get(f"/runs/{runs[name].id}").text, name
        assert runs["silent"].status == "running", "an answer may take long, byte by byte"
        await cancel_now(lab.wire, runs["silent"].id, "by the test")

        async def hung_up() -> bool:
            return app.open == 0

        await eventually(hung_up, "the call of a run that was cancelled is closed")
        await lab.ended(len(CASES) + 2)


async def test_a_proxy_that_says_the_app_is_not_there_uses_up_no_attempt(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepstream.consumers.remote.calls.client.Client.down_ms", lambda _: 20)

    def script(told: Told) -> Response:
        return Response("no healthy upstream", 503) if len(app.calls) < 4 else returned(told.ctx["attempt"])

    async with serving(script) as app:
        lab.app = app.bus("order/paid", retries=0)
        await lab.work()
        await lab.send("order/paid")
        assert await lab.output() == 0
    assert len(app.calls) == 4


async def test_an_app_that_restarts_is_called_again_at_once_however_many_runs_found_it_gone(settings: Settings) -> None:
    gone = Client(settings)
    for _ in range(20):
        with pytest.raises(Unreachable):
            await gone.call(f"http://127.0.0.1:{free_port()}/", b"{}", {})
    assert gone.down_ms() < 20_000, "it is asked again after half the time it has been down, not after each call later"
    await gone.close()


async def test_a_call_has_an_end_however_slowly_it_is_answered(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepstream.consumers.remote.calls.client.CALL_S", 0.3)
    async with answering(slow=endless(b"200 OK\r\n" + _SDK + _CHUNKED + b"\r\n", chunk(b" "), pause_s=0.01)) as app:
        lab.app = app.bus()
        await lab.work()
        await lab.send("order/paid", {"case": "slow"})
        run = await lab.one()
        assert run.error is not None
        assert "no whole answer within" in run.error.told()


def test_how_long_a_step_took_is_kept_within_bounds_whatever_an_app_says() -> None:
    def took(nanoseconds: float) -> int:
        timed = [op("StepRun", "a", timing={"a": 0, "b": nanoseconds})]
        return ops_of(Given(206, {}, json.dumps(timed).encode()))[0].took_ms

    assert [took(1.5e6), took(-1e18), took(1e308)] == [2, 0, 366 * 86_400_000]
