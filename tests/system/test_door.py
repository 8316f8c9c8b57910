"""The door and where it stands: hosts, foreign pages, mounting, and errors told so that the caller can act on them."""

import asyncio
import contextlib
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import msgspec
import pytest
import redis
import structlog
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from stepstream import create_app, serve
from stepstream.bus.bus import Bus
from stepstream.bus.errors import ConfigError
from stepstream.bus.settings import Settings
from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.ids import run_id
from stepstream.bus.wire import keys
from stepstream.web.app import Site
from stepstream.web.routing import NeedsSocket
from tests.forks import Forked
from tests.patience import PATIENT_S
from tests.support import fields, free_port

TODAY = now_ms() // 86_400_000 * 86_400_000
RUN, LATER = (run_id("t-f", "event", cause, TODAY) for cause in ("a|1-0", "a|2-0"))  # in each process the same
ODD = ["t-a/../b", "t-a/./b", "t-a%2Fb", "t-two words", "t-a?b#c", "t-é", "t-f/", 't-"<b>"', "t-a\\b", "t-%2e%2e"]
HTML = {"accept": "text/html,*/*"}


def declared(slug: str) -> str:
    fields = {"bus": "t", "id": slug[2:], "name": slug, "slug": slug, "on": ["a"], "events": ["a"], "retries": 4}
    return json.dumps({**fields, "code": "x"})


@pytest.fixture
def store(store: "redis.Redis") -> "redis.Redis":
    """Functions with odd ids, an ended run, and one that waits."""
    for slug in ("t-f", *ODD):
        store.hset(keys.functions(), slug, declared(slug))
    event = '{"id":"e","name":"a","data":{},"ts":1}'
    for run, status in ((RUN, "completed"), (LATER, "waiting")):
        store.hset(keys.run("t-f", run), mapping={"status": status, "queued": "1", "turn": "1", "event": event})
        store.expire(keys.run("t-f", run), 60)
        store.zadd(keys.runs("t-f", status), {run: 1})
    return store


@pytest.fixture
def http(store: "redis.Redis", http: TestClient) -> TestClient:
    """With those in its store."""
    return http


# -- hosts and foreign pages ------------------------------------------------------------------------------------------


def site(settings: Settings, *hosts: str, base: str = "http://10.1.2.3:8288") -> TestClient:
    """A site that is asked at an address of its own, as where others reach it."""
    return TestClient(create_app(configured=settings, hosts=hosts), base_url=base)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("localhost:8288", 200), ("127.0.0.1:8288", 200), ("[::1]:8288", 200), ("LOCALHOST.", 200),
        ("0.0.0.0:8288", 200), ("[::]:8288", 200),
        ("10.1.2.3", 200), ("10.1.2.3:8288", 200), ("shop.example", 200), ("Shop.Example:443", 200),
        ("a.wild.example", 200), ("wild.example", 421), ("evil.example", 421), ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421), ("10.1.2.4", 421), ("evilshop.example", 421), ("", 421),
        ("shop.example@evil.example", 421), ("shop.example evil.example", 421), ("localhost:80:80", 421),
    ],
)  # fmt: skip
def test_a_page_under_a_foreign_name_reads_nothing_and_starts_nothing(
    settings: Settings, store: "redis.Redis", host: str, status: int
) -> None:
    with site(settings, "shop.example", "*.wild.example") as http:
        for method, path in (("GET", "/v1/runs"), ("GET", "/"), ("GET", "/static/style.css"), ("GET", "/health")):
            answer = http.request(method, path, headers={"host": host})
            assert answer.status_code == status, path
        posted = http.post("/invoke/t-f", headers={"host": host}, json={})
        assert posted.status_code == status
        if status == 421:
            assert f"Host {host!r} is not served here" in posted.json()["error"]
            assert "--allow-host" in posted.json()["error"]
    assert store.xlen(keys.queue("t-f")) == (1 if status == 200 else 0)


def test_what_a_proxy_says_the_host_was_counts_for_nothing_by_itself(settings: Settings, store: "redis.Redis") -> None:
    forwarded = {"x-forwarded-host": "localhost", "forwarded": "host=localhost", "x-forwarded-for": "127.0.0.1"}
    with site(settings) as http:
        assert http.get("/v1/runs", headers={"host": "evil.example", **forwarded}).status_code == 421
        assert http.get("/v1/runs", headers={"x-forwarded-host": "evil.example"}).status_code == 200


def test_names_come_from_the_environment_too_and_a_name_that_is_none_is_refused(settings: Settings) -> None:
    named = msgspec.structs.replace(settings, allow_hosts=("one.example",))
    with site(named, "two.example") as http:
        for host in ("one.example", "two.example"):
            assert http.get("/health", headers={"host": host}).status_code == 200
    with site(settings, "*") as http:
        assert http.get("/health", headers={"host": "any.example"}).status_code == 200
    for wrong in ("https://one.example", "one.example:80", "one example", "", "*.*", "a/b"):
        with pytest.raises(ConfigError, match="without https"):
            create_app(configured=settings, hosts=[wrong])


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 200), ("http://localhost:8288", 200), ("https://shop.example", 200), ("https://shop.example:8443", 200),
        ("http://localhost:3000", 403), ("http://127.0.0.1:8288", 403), ("https://evil.example", 403), ("null", 403),
        ("https://shop.example.evil.example", 403),
    ],
)  # fmt: skip
def test_only_pages_of_ours_may_act(settings: Settings, store: "redis.Redis", origin: str | None, status: int) -> None:
    headers = {"host": "localhost:8288"} | ({"origin": origin} if origin is not None else {})
    with site(settings, "shop.example") as http:
        assert http.post("/e/k", headers=headers, json={"name": "a"}).status_code == status
        assert http.delete(f"/v1/runs/{LATER}", headers=headers).status_code == status
        assert http.get("/v1/runs", headers=headers).status_code == 200
    with site(settings, "*") as http:
        assert http.post("/e/k", headers={"origin": "https://evil.example"}, json={"name": "a"}).status_code == 403


@pytest.mark.process
def test_serve_answers_to_the_names_it_is_given(settings: Settings, tmp_path: Path) -> None:
    port = free_port()
    command = ["serve", "--port", str(port), "--host", "0.0.0.0", "--allow-host", "one.example"]
    token = "a-token-of-the-test"
    named = {"BUS_ALLOW_HOSTS": "two.example", "BUS_API_TOKENS": token}
    environ = {**os.environ, "BUS_REDIS_URL": settings.redis_url, **named}
    process = Forked(*command, env=environ, err=tmp_path / "err")
    try:
        wanted = {"one.example": 200, "two.example": 200, "127.0.0.1": 200, "evil.example": 421}

        def asked(name: str) -> int:
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/v1/runs", headers={"Host": name, "Authorization": f"Bearer {token}"}
            )
            try:
                with urllib.request.urlopen(request, timeout=PATIENT_S) as answer:
                    return int(answer.status)
            except urllib.error.HTTPError as error:
                return error.code
            except OSError:
                return 0

        until = time.monotonic() + PATIENT_S
        while not asked("127.0.0.1"):
            assert time.monotonic() < until
            time.sleep(0.05)
        assert {name: asked(name) for name in wanted} == wanted
        assert "answers to localhost, its own address, two.example, one.example" in (tmp_path / "err").read_text()
    finally:
        process.terminate()
        assert process.wait(PATIENT_S) == 0


# -- mounting ---------------------------------------------------------------------------------------------------------


def host(mounted: Site) -> Starlette:
    """An application that mounts the site: the mounted lifespan never runs, so it closes it in its own."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        yield
        await mounted.close()

    return Starlette(routes=[Mount("/bus", mounted)], lifespan=lifespan)


def under_fastapi(app: ASGIApp) -> ASGIApp:
    """What FastAPI does with `root_path="/shop"`: it says so in the scope, before the path it does not take it off."""

    async def with_root(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["root_path"] = "/shop" + scope.get("root_path", "")
            scope["path"] = "/shop" + scope["path"]
        await app(scope, receive, send)

    return with_root


@pytest.mark.parametrize("prefix", ["/bus", "/shop/bus"])
def test_mounted_in_another_application_everything_works_without_its_lifespan(
    settings: Settings, store: "redis.Redis", prefix: str
) -> None:
    app: ASGIApp = host(serve(Bus("t"), configured=settings))
    inside = "/bus"
    with TestClient(app if prefix == inside else under_fastapi(app)) as http:
        assert http.get(f"{inside}/ready").json() == {"status": "ready"}
        assert http.post(f"{inside}/e/k", json={"name": "a"}).status_code == 200
        assert len(http.get(f"{inside}/v1/runs").json()["data"]) == 2
        front = http.get(f"{inside}/", headers=HTML)
        assert front.status_code == 200
        shown = front.text + http.get(f"{inside}/runs", headers=HTML).text
        for path in (f"{prefix}/runs/{RUN}", f"{prefix}/functions/t-f", f"{prefix}/static/style.css"):
            assert f'"{path}"' in shown
            assert http.get(path.removeprefix("/shop")).status_code == 200
        later = http.get(f"{inside}/runs/{LATER}", headers=HTML)
        pages = [front, later, http.get(f"{inside}/runs/x", headers=HTML)]
        for link in ("href=", "src=", "action="):
            assert not any(f'{link}"/' in page.text.replace(f'{link}"{prefix}/', "") for page in pages)
        cancelled = http.post(f"{inside}/runs/{LATER}/cancel", data=fields(later.text), follow_redirects=False)
        assert cancelled.headers["location"] == f"{prefix}/runs/{LATER}"
        lost = http.get(f"{inside}/static/nothing.css", headers=HTML)
        assert (lost.status_code, f'href="{prefix}/"' in lost.text) == (404, True)
        assert http.get(f"{inside}/v1/nothing", headers=HTML).json()["status"] == 404


def test_mounted_beside_others_it_leaves_them_alone_and_is_closed_by_who_mounts_it(
    settings: Settings, store: "redis.Redis"
) -> None:
    def connections() -> int:
        return sum(client["name"] == "bus-web" for client in store.client_list())

    with TestClient(host(serve(Bus("t"), configured=settings, hosts=["shop.example"]))) as http:
        assert connections() == 0
        assert http.get("/bus/v1/runs", headers={"host": "shop.example"}).status_code == 200
        assert connections() > 0
        assert http.get("/bus/v1/runs", headers={"host": "evil.example"}).status_code == 421
    assert connections() == 0


def test_behind_a_proxy_that_takes_a_prefix_off_links_have_it(settings: Settings, store: "redis.Redis") -> None:
    with TestClient(create_app(configured=settings), root_path="/tools") as http:
        assert f'"/tools/runs/{RUN}"' in http.get("/runs").text


# -- odd ids, methods, errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("slug", ODD)
async def test_a_function_with_an_odd_id_has_its_page_and_its_routes(
    settings: Settings, store: "redis.Redis", slug: str
) -> None:
    app = create_app(configured=settings)
    # Not the TestClient: it takes percent signs off a path twice.
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://localhost") as http:
        link = f"/functions/{quote(slug, safe='')}"
        assert f'href="{link}"' in (await http.get("/")).text
        page = await http.get(link)
        assert (page.status_code, "It has not run yet" in page.text) == (200, True)
        assert (await http.get(f"/v1{link}")).json()["data"]["slug"] == slug
        assert (await http.post(f"/invoke/{quote(slug, safe='')}", json={})).status_code == 200
        assert (await http.get("/v1/runs", params={"function": slug})).status_code == 200
    await app.close()


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", f"/v1/runs/{RUN}", "DELETE, GET, HEAD"),
        ("POST", f"/v1/runs/{RUN}", "DELETE, GET, HEAD"),
        ("GET", f"/v1/runs/{RUN}/rerun", "POST"),
        ("GET", "/e/k", "POST"),
        ("POST", "/v1/runs", "GET, HEAD"),
        ("DELETE", "/invoke/t-f", "POST"),
        ("POST", "/", "GET, HEAD"),
        ("GET", f"/runs/{RUN}/cancel", "POST"),
        ("POST", "/ready", "GET, HEAD"),
    ],
)
def test_a_method_that_is_not_there_is_told_with_those_that_are(
    http: TestClient, method: str, path: str, allowed: str
) -> None:
    answer = http.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert answer.json()["status"] == 405


ERRORS: list[tuple[str, str, int, str, str]] = [
    ("GET", "/v1/runs/01ARZ3NDEKTSV4RRFFQ69G5FAV", 404, "run_not_found", "it never was"),
    ("GET", "/v1/runs/x/steps", 404, "run_not_found", "it never was"),
    ("GET", "/v1/runs/x?wait=0.01", 404, "run_not_found", "it never was"),
    ("DELETE", "/v1/runs/x", 404, "run_not_found", "it never was"),
    ("POST", "/v1/runs/x/rerun", 404, "run_not_found", "it never was"),
    ("POST", "/invoke/nobody", 404, "function_not_found", "there are t-"),
    ("GET", "/v1/functions/nobody", 404, "function_not_found", "there are t-"),
    ("GET", "/v1/runs?function=nobody", 404, "function_not_found", "there are t-"),
    ("GET", "/v1/runs?status=asleep", 400, "bad_request", "use one of queued, running"),
    ("GET", "/v1/runs?limit=x", 400, "bad_request", "from 1 to 1000"),
    ("GET", f"/v1/runs/{RUN}?wait=soon", 400, "bad_request", "is not a duration"),
    ("GET", "/v1/nothing", 404, "not_found", "there is nothing at '/v1/nothing'"),
]


@pytest.mark.parametrize(("method", "path", "status", "code", "told"), ERRORS)
def test_errors_of_the_api_are_json_whoever_asks(
    http: TestClient, method: str, path: str, status: int, code: str, told: str
) -> None:
    for headers in ({}, HTML):
        answer = http.request(method, path, headers=headers)
        content = answer.json()
        assert (answer.status_code, content["status"], content["code"]) == (status, status, code)
        assert told in content["error"]


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("/runs/x", 404, "it never was"),
        ("/functions/nobody", 404, "is not registered"),
        ("/nothing", 404, "there is nothing at"),
        (f"/runs/{RUN}/cancel", 405, "is not for"),
    ],
)
def test_errors_of_pages_are_pages_to_people_and_json_to_programs(
    http: TestClient, path: str, status: int, told: str
) -> None:
    page = http.get(path, headers=HTML)
    assert (page.status_code, page.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert told in page.text
    assert 'href="/"' in page.text
    program = http.get(path)
    assert (program.status_code, told in program.json()["error"]) == (status, True)


def test_an_error_of_ours_is_json_with_a_number_that_the_log_knows(http: TestClient, store: "redis.Redis") -> None:
    form = fields(http.get("/functions/t-f", headers=HTML).text)
    store.set(keys.controls(), "of the wrong type")
    with structlog.testing.capture_logs() as logs:
        answers: list[Any] = [
            http.post("/v1/functions/t-f/pause"),
            http.post("/functions/t-f/pause", data=form, headers=HTML),
        ]
    store.delete(keys.controls())
    assert [answer.status_code for answer in answers] == [500, 500]
    content = answers[0].json()
    assert (content["status"], content["code"]) == (500, "broken")
    assert "WRONGTYPE" not in answers[0].text
    assert answers[1].headers["content-type"].startswith("text/html")
    assert answers[0].headers["x-content-type-options"] == "nosniff"
    first, second = (log for log in logs if log["event"] == "a request failed")
    assert first["request"] == content["number"]
    assert second["request"] in answers[1].text
    assert "WRONGTYPE" in str(first["exc_info"])
    assert http.get("/health").status_code == 200


def test_the_log_of_an_error_does_not_tell_the_event_key(http: TestClient, store: "redis.Redis") -> None:
    """It is in the path, which the line of a request that failed tells."""
    store.set(keys.events("a"), "of the wrong type")
    with structlog.testing.capture_logs() as logs:
        answer = http.post("/e/key-that-nobody-may-read", json={"name": "a", "data": {}})
    store.delete(keys.events("a"))
    assert answer.status_code == 500, answer.text
    told = [log for log in logs if log["event"] == "a request failed"]
    assert [log["path"] for log in told] == ["/e/…"]
    assert "key-that-nobody-may-read" not in str([{**log, "exc_info": str(log.get("exc_info"))} for log in logs])


def test_a_socket_is_for_no_foreign_page_unless_its_route_says_so(settings: Settings) -> None:
    """A browser opens one for any page, with what it has for the site."""
    site = create_app(configured=settings)
    opened: list[str] = []

    async def open_it(socket: WebSocket) -> None:
        opened.append(socket.headers.get("origin", ""))
        await socket.accept()
        if socket.query_params:
            raise RuntimeError("secret")
        await socket.close()

    site.routes[:0] = [
        NeedsSocket("/own", open_it, needs="nothing"),
        NeedsSocket("/any", open_it, needs="nothing", any_origin=True),
    ]
    evil = {"origin": "https://evil.example"}
    with TestClient(site, base_url="http://localhost") as http:
        with pytest.raises(WebSocketDenialResponse) as refused, http.websocket_connect("/own", headers=evil):
            pass
        assert (refused.value.status_code, refused.value.json()["code"]) == (403, "origin")
        for path, headers in (("/own", {}), ("/own", {"origin": "http://testserver"}), ("/any", evil)):
            with http.websocket_connect(path, headers=headers):
                pass
        with (
            structlog.testing.capture_logs() as lines,
            pytest.raises(WebSocketDisconnect) as closed,
            http.websocket_connect("/own?breaks=1") as socket,
        ):
            socket.receive_text()
        assert [line["event"] for line in lines] == ["a request failed"]
    assert (closed.value.code, "secret" in closed.value.reason) == (1011, False)
    assert opened == ["", "http://testserver", evil["origin"], ""]


def test_a_socket_whose_caller_has_gone_is_no_error_of_ours(settings: Settings) -> None:
    """Who sends and finds nobody passes over it; who reads next is told by the server's library in an error."""
    site = create_app(configured=settings)

    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        if socket.query_params:
            with contextlib.suppress(WebSocketDisconnect):
                await socket.send_text("there?")
        await socket.receive_bytes()

    site.routes[:0] = [NeedsSocket("/talk", talk, needs="nothing")]

    async def receive() -> dict[str, Any]:
        return told.pop(0)

    async def send(message: Any) -> None:
        if message["type"] == "websocket.send":
            raise OSError("the other side has gone")

    for query in (b"", b"tells=1"):
        told = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1006}]
        scope = {
            "type": "websocket", "path": "/talk", "query_string": query, "headers": [(b"host", b"localhost")],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "scheme": "ws", "subprotocols": [],
        }  # fmt: skip
        with structlog.testing.capture_logs() as lines:
            asyncio.run(site(scope, receive, send))  # type: ignore[arg-type]
        assert lines == []
