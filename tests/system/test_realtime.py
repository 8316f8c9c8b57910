"""Realtime of the SDKs: what their code sends and reads, over HTTP and WebSockets, and the bounds of it."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any

import httpx2
import msgspec
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from stepstream import Context, Step, create_app, mount
from stepstream.bus.settings import Settings
from stepstream.bus.trust.tickets import Topic, ticket
from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.ids import run_id
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.live import hub, messages
from stepstream.checkpoint.live.messages import publish
from stepstream.web.live import stream as sent
from stepstream.web.serving.connections import Bounds
from tests.patience import PATIENT_S
from tests.support import Lab
from tests.system.test_live import Site, connected, serving

RUN = run_id("t-f", "event", "a|1-0", 1795308803000)
PUBLISH = "/v1/realtime/publish"


@pytest.fixture
async def site(settings: Settings) -> AsyncGenerator[Site]:
    async with serving(settings) as running:
        yield running


async def token(site: Site, channel: str = "c", *topics: str, **headers: str) -> str:
    asked = [{"channel": channel, "name": topic, "kind": "run"} for topic in topics or ("t",)]
    async with httpx2.AsyncClient(base_url=site.url, headers=headers, verify=False) as client:
        answer = await client.post("/v1/realtime/token", json=asked)
    assert answer.status_code == 201, answer.text
    return answer.json()["jwt"]


@asynccontextmanager
async def listening(site: Site, channel: str = "c", *topics: str, **options: Any) -> AsyncGenerator[ClientConnection]:
    """Listen as an SDK does."""
    url = f"{site.url.replace('http', 'ws')}/v1/realtime/connect?token={await token(site, channel, *topics)}"
    async with connect(url, **options) as socket:
        yield socket


async def told(socket: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(PATIENT_S):
        return json.loads(await socket.recv())


async def post(site: Site, path: str, content: Any = b"", **headers: str) -> httpx2.Response:
    async with httpx2.AsyncClient(base_url=site.url, verify=False) as client:
        return await client.post(path, content=content, headers=headers)


async def test_what_an_sdk_publishes_is_what_an_sdk_reads(site: Site) -> None:
    async with listening(site, "user:1", "news", "other") as socket:
        answer = await post(site, f"{PUBLISH}?channel=user%3A1&run_id={RUN}&topic=news", b'{"n":\r\n [1, null]}')
        assert (answer.status_code, answer.content) == (200, b"")
        first = await told(socket)
        at = datetime.fromisoformat(first.pop("created_at"))
        assert at.tzinfo is not None
        assert abs(at.timestamp() * 1_000 - now_ms()) < 60_000
        assert first == {"kind": "data", "channel": "user:1", "topic": "news", "data": {"n": [1, None]}, "run_id": RUN}
        await post(site, f"{PUBLISH}?channel=user%3A1&topic=unasked", b"1")
        await post(site, f"{PUBLISH}?channel=another&topic=news", b"2")
        await post(site, f"{PUBLISH}?channel=user%3A1&topic=other", b"3")
        assert ((await told(socket))["data"], socket.ping_timeout) == (3, 20)


@pytest.mark.parametrize(
    ("sent", "read"),
    [(b"hello", "hello"), (b"", ""), (b'"quoted"', "quoted"), (b"42", 42), (b"null", None), ("Zürich ✓\n".encode(), "Zürich ✓\n")],
)  # fmt: skip
def test_a_text_may_come_without_its_quotes(http: TestClient, sent: bytes, read: object) -> None:
    with heard(http) as socket:
        assert http.post(f"{PUBLISH}?channel=c&topic=t", content=sent).status_code == 200
        assert socket.receive_json()["data"] == read


def heard(http: TestClient, channel: str = "c", *topics: str, **more: Any) -> Any:
    asked = [{"channel": channel, "name": topic, "kind": "run"} for topic in topics or ("t",)]
    given = http.post("/v1/realtime/token", json=asked, headers=more.get("headers", {})).json()["jwt"]
    return http.websocket_connect(f"/v1/realtime/connect?token={given}", headers=more.get("page", {}))


async def test_what_a_run_publishes_comes_to_an_sdk_and_the_other_way_round(lab: Lab, site: Site) -> None:
    @lab.app.function("f", on="order/paid")
    async def f(ctx: Context, step: Step) -> None:
        await ctx.publish("state", {"at": 1}, channel="shop")

    await lab.work()
    async with listening(site, "shop", "state") as socket:
        await lab.send("order/paid")
        first = await told(socket)
        run = await lab.one()
        assert (first["data"], first["run_id"]) == ({"at": 1}, run.id)
    await post(site, f"{PUBLISH}?channel=shop&topic=go&run_id={RUN}", b'{"n": 1}')
    following = connected(lab).live("shop", topics=["go"], after="0")
    message = await anext(following)
    await following.aclose()
    assert (message.topic, message.data, message.run) == ("go", {"n": 1}, RUN)


async def pieces(*several: bytes | Callable[[], Any]) -> AsyncIterator[bytes]:
    for one in several:
        if isinstance(one, bytes):
            yield one
        else:
            await one()


async def test_a_stream_comes_in_pieces_as_it_is_sent_with_its_begin_and_its_end(site: Site) -> None:
    found: list[dict[str, Any]] = []

    async with listening(site) as socket:

        async def read() -> None:
            found.append(await told(socket))

        # Each piece has come before the next is sent; one of them ends within a letter.
        sent = pieces(b"Z\xc3", read, read, b"\xbcrich", read, b" \xe2", read)
        answer = await post(site, f"{PUBLISH}?channel=c&topic=t&run_id={RUN}", sent, **{"content-type": "text/stream"})
        assert answer.status_code == 200
        found += [await told(socket), await told(socket)]
    stream = found[0]["data"]
    assert [(one["kind"], one["data"], one["topic"], one["run_id"]) for one in found] == [
        ("datastream-start", stream, "t", RUN), ("chunk", "Z", "t", RUN), ("chunk", "ürich", "t", RUN),
        ("chunk", " ", "t", RUN), ("chunk", "�", "t", RUN), ("datastream-end", stream, "t", RUN),
    ]  # fmt: skip
    assert {one.get("stream_id") for one in found} == {None, stream}


async def test_who_listens_hears_of_the_end_of_a_stream_that_breaks_off(site: Site) -> None:
    async with listening(site) as socket:

        async def broken() -> None:
            assert (await told(socket))["kind"] == "datastream-start"
            assert (await told(socket))["data"] == "a"
            raise ConnectionError

        with pytest.raises(ConnectionError):
            await post(site, f"{PUBLISH}?channel=c&topic=t", pieces(b"a", broken), **{"content-type": "text/stream"})
        assert (await told(socket))["kind"] == "datastream-end"


async def test_a_stream_that_is_too_long_is_refused_and_ended(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepstream.web.sdk.realtime.MAX_BODY_BYTES", 3)
    async with listening(site) as socket:
        sent = pieces(b"ab", lambda: told(socket), lambda: told(socket), b"cd")
        answer = await post(site, f"{PUBLISH}?channel=c&topic=t", sent, **{"content-type": "text/stream"})
        assert answer.status_code == 413
        assert (await told(socket))["kind"] == "datastream-end"


async def test_a_stream_may_take_longer_than_any_other_body(
    settings: Settings, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepstream.web.serving.server.Bounds", partial(Bounds, body_s=0.1))
    async with serving(settings) as site:

        async def another_is_given_up() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(site.url.rpartition(":")[2]))
            writer.write(b"POST /e/dev HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
            writer.close()

        answer = await post(site, f"{PUBLISH}/tee?channel={RUN}", pieces(b"a", another_is_given_up, b"b"))
        assert answer.status_code == 200


async def test_a_tee_passes_bytes_on_to_who_asked_for_them_and_to_nobody_else(wire: Wire, site: Site) -> None:
    event = 'event: inngest.stream\ndata: {"data":"Zü'.encode()
    given = await token(site, RUN, "$stream")
    async with (
        httpx2.AsyncClient(base_url=site.url, timeout=20) as client,
        listening(site, RUN, "t") as other,
        listening(site, RUN, "$stream") as socket,
        client.stream("GET", f"/v1/realtime/sse?token={given}") as events,
    ):
        assert events.headers["access-control-allow-origin"] == "*"
        sent = pieces(event[:-1], lambda: socket.recv(), event[-1:] + b'"}\n\n')
        answer = await post(site, f"{PUBLISH}/tee?channel={RUN}", sent)
        assert (answer.status_code, answer.content) == (200, b"")
        assert await socket.recv() == 'ü"}\n\n'
        await publish(wire, RUN, "t", b"1")
        assert (await told(other))["data"] == 1
        await publish(wire, RUN, "$stream", b"2")
        text = b""
        async for piece in events.aiter_bytes():
            text += piece
            if text.endswith(b"}\n\n") and b"id: " in text:
                break
    assert text.startswith(b"retry: 1000\n\n" + event + b'"}\n\nid: ')


async def test_events_are_those_of_sdks_and_go_on_behind_the_last_one(wire: Wire, site: Site) -> None:
    first = await publish(wire, "c", "t", b"1")
    await publish(wire, "c", "t", b"2")
    async with site.events(f"/v1/realtime/sse?token={await token(site)}", **{"Last-Event-ID": first}) as events:
        found = (await anext(events))["data"]
    assert (found["kind"], found["channel"], found["topic"], found["data"]) == ("data", "c", "t", 2)


async def test_a_native_listener_is_told_what_a_piece_is(wire: Wire, site: Site) -> None:
    async with site.events("/v1/live/c") as events:
        await post(site, f"{PUBLISH}?channel=c&topic=t", pieces(b"a"), **{"content-type": "text/stream"})
        found = [(await anext(events))["data"] for _ in range(3)]
    assert [one.get("kind") for one in found] == ["datastream-start", "chunk", "datastream-end"]
    assert len({one["stream"] for one in found}) == 1


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        (f"{PUBLISH}?topic=t", b"1", 400),
        (f"{PUBLISH}?channel=c", b"1", 400),
        (f"{PUBLISH}?channel=c&topic=t&topic=u", b"1", 400),
        (f"{PUBLISH}?channel={'c' * 256}&topic=t", b"1", 400),
        (f"{PUBLISH}?channel=c&topic=t&run_id=x", b"1", 400),
        (f"{PUBLISH}?channel=c&topic=t", b"\xff", 400),
        (f"{PUBLISH}?channel=c&topic=t", b'{"a":1,"a":2}', 400),
        (f"{PUBLISH}?channel=c&topic=t", b"x" * (messages.MAX_MESSAGE_BYTES + 1), 413),
        (f"{PUBLISH}?channel=c&topic=t", b"\n" * messages.MAX_MESSAGE_BYTES, 400),
        (f"{PUBLISH}/tee", b"1", 400),
        ("/v1/realtime/token", b"[]", 400),
        ("/v1/realtime/token", b'{"channel":"c"}', 400),
        ("/v1/realtime/token", b'[{"channel":"c"}]', 400),
        ("/v1/realtime/token", b'[{"channel":"c","name":"t"},{"channel":"d","name":"t"}]', 400),
        ("/v1/realtime/token", b'[{"channel":"","name":"t"}]', 400),
        ("/v1/realtime/token", b'[{"channel":"c","name":""}]', 400),
        ("/v1/realtime/token", json.dumps([{"channel": "c", "name": f"{n}"} for n in range(1_000)]).encode(), 400),
    ],
)
def test_what_makes_no_sense_is_refused(http: TestClient, path: str, content: bytes, status: int) -> None:
    answer = http.post(path, content=content)
    assert (answer.status_code, answer.json()["status"]) == (status, status), answer.text


@pytest.mark.parametrize("channel", ["c" * 255, "user:1/é ✓ {x}\n", "*", "..", "%2F"])
def test_a_channel_may_have_any_name(http: TestClient, channel: str) -> None:
    with heard(http, channel, "t") as socket:
        http.post(PUBLISH, params={"channel": channel, "topic": "t"}, content="1")
        assert socket.receive_json()["channel"] == channel


def test_a_token_that_is_none_is_refused_before_the_socket_is_open(http: TestClient) -> None:
    for given, status in (
        ("", 400),
        ("?token=", 400),
        ("?token=a.b.c", 401),
        (f"?token={ticket([Topic('c', 't')], [], 0)}", 401),
    ):
        with pytest.raises(WebSocketDenialResponse) as refused, http.websocket_connect(f"/v1/realtime/connect{given}"):
            pass
        assert (refused.value.status_code, refused.value.json()["status"]) == (status, status)
        assert http.get(f"/v1/realtime/sse{given}").status_code == status


def test_a_page_of_this_machine_may_listen_and_a_foreign_one_may_not(http: TestClient) -> None:
    given = http.post("/v1/realtime/token", json=[{"channel": "c", "name": "t"}]).json()["jwt"]
    path = f"/v1/realtime/connect?token={given}"
    local = {"host": "127.0.0.1:8288"}
    for page in (
        {},
        {"origin": "http://localhost:3000"},
        {"origin": "http://127.0.0.1:8288"},
        {"origin": "http://[::1]:3000"},
    ):
        with http.websocket_connect(path, headers={**local, **page}):
            pass
    for origin in ("https://evil.example", "null", "http://localhost.evil.example", "http://10.0.0.1:3000"):
        headers = {**local, "origin": origin}
        with pytest.raises(WebSocketDenialResponse) as refused, http.websocket_connect(path, headers=headers):
            pass
        assert (refused.value.status_code, refused.value.json()["code"]) == (403, "origin")
        assert http.get(f"/v1/realtime/sse?token={given}&after=x", headers=headers).status_code == 403


def test_a_foreign_host_opens_no_socket(http: TestClient) -> None:
    with pytest.raises(WebSocketDenialResponse) as refused, heard(http, page={"host": "evil.example"}):
        pass
    assert (refused.value.status_code, refused.value.json()["code"]) == (421, "host")
    assert refused.value.headers["x-inngest-server-kind"] == "dev"


def test_in_keys_mode_the_token_is_the_key_and_any_page_may_show_it(settings: Settings) -> None:
    keyed = msgspec.structs.replace(settings, signing_key="ab" * 32, api_tokens=("token-of-the-page-1",))
    bearer = {"authorization": "Bearer token-of-the-page-1"}
    with TestClient(create_app(configured=keyed)) as http:
        assert http.post("/v1/realtime/token", json=[{"channel": "c", "name": "t"}]).status_code == 401
        assert http.post(f"{PUBLISH}?channel=c&topic=t", content="1").status_code == 401
        with heard(http, headers=bearer, page={"origin": "https://shop.example"}) as socket:
            http.post(f"{PUBLISH}?channel=c&topic=t", content="1", headers=bearer)
            assert socket.receive_json()["data"] == 1
        forged = ticket([Topic("c", "t")], [], now_ms())
        for given in ("", f"?token={forged}", "?token=token-of-the-page-1"):
            socket = http.websocket_connect(f"/v1/realtime/connect{given}", headers=bearer)
            with pytest.raises(WebSocketDenialResponse) as refused, socket:
                pass
            assert refused.value.status_code == 401


def test_who_is_one_too_many_is_refused_and_a_place_that_is_given_back_is_taken(
    http: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "MOST_LISTENERS", 2)
    with heard(http):
        with heard(http, "d"):
            with pytest.raises(WebSocketDenialResponse) as refused, heard(http):
                pass
            assert (refused.value.status_code, refused.value.json()["code"]) == (503, "too_many_listeners")
        with heard(http, "e"):
            pass


async def until_closed(socket: ClientConnection) -> None:
    while True:
        await socket.recv()


async def test_who_does_not_read_is_let_go_and_nothing_is_kept_for_it(
    wire: Wire, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its messages are large, so that they do not fit into what the network holds."""
    monkeypatch.setattr(hub, "MOST_WAITING_BYTES", 1)
    large = b'"%s"' % (b"x" * 400_000)
    async with listening(site, max_queue=1, compression=None, max_size=2**20) as socket:
        socket.transport.pause_reading()

        def dropped() -> bool:
            """Whether none is left that still gets messages: who was let go may be gone already."""
            return all(
                one._error is not None for h in hub._hubs.values() for c in h._channels.values() for one in c.listeners
            )

        async with asyncio.timeout(PATIENT_S):
            while not dropped():
                await publish(wire, "c", "t", large)
        socket.transport.resume_reading()
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(until_closed(socket), PATIENT_S)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason.partition(":")[0]) == (1013, "too_slow")


async def test_who_never_reads_again_keeps_no_place(wire: Wire, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepstream.web.sdk.listening.TAKEN_WITHIN_S", 0.05)
    monkeypatch.setattr(sent, "TAKEN_WITHIN_S", 0.05)
    large = b'"%s"' % (b"x" * 400_000)

    async def until_nobody_listens() -> None:
        async with asyncio.timeout(PATIENT_S):
            while hub._hubs:
                await publish(wire, "c", "t", large)

    async with listening(site, max_queue=1, compression=None) as socket:
        socket.transport.pause_reading()
        await until_nobody_listens()
        socket.transport.abort()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(site.url.rpartition(":")[2]), limit=1_000)
    writer.write(b"GET /v1/live/c HTTP/1.1\r\nhost: localhost\r\n\r\n")
    await reader.readuntil(b"retry: 1000")
    await until_nobody_listens()
    writer.close()


async def test_a_server_that_stops_closes_its_sockets(settings: Settings) -> None:
    async with serving(settings) as site, listening(site) as socket:
        site.running.should_exit = True
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), 20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code in {1001, 1012}


def test_a_mounted_site_has_it_too(settings: Settings) -> None:
    host = Starlette()
    mount(host, "/bus", create_app(configured=settings))
    with TestClient(host) as http:
        given = http.post("/bus/v1/realtime/token", json=[{"channel": "c", "name": "t"}]).json()["jwt"]
        with http.websocket_connect(f"/bus/v1/realtime/connect?token={given}") as socket:
            http.post(f"/bus{PUBLISH}?channel=c&topic=t", content="1")
            assert socket.receive_json()["data"] == 1
        with pytest.raises(WebSocketDisconnect), http.websocket_connect("/bus/v1/nothing"):
            pass


def test_a_key_that_is_no_stream_closes_the_socket_and_says_so(http: TestClient, store: Any) -> None:
    from stepstream.bus.wire import keys

    store.set(keys.live("c"), "x", px=60_000)
    with pytest.raises(WebSocketDenialResponse) as refused, heard(http):
        pass
    assert refused.value.status_code == 500
