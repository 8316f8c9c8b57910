"""Keys mode: which key opens which route, over all routes there are, and what is told of keys: nothing."""

import asyncio
import base64
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import redis
import structlog
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient, WebSocketDenialResponse

from stepstream import Bus, Context, Step, create_app, mount, serve
from stepstream.bus.errors import ConfigError
from stepstream.bus.settings import Settings
from stepstream.bus.trust.signing import hashed
from stepstream.bus.wire import keys
from stepstream.web.app import Site
from stepstream.web.endpoint import Endpoint
from stepstream.web.routing import NeedsRoute, NeedsSocket
from stepstream.web.serving.server import check_address

SIGNING, OLD, FOREIGN = (f"signkey-test-{digit * 64}" for digit in "abc")
TOKEN, EVENT_KEY = "token-of-the-page-1", "event-key-1"
HTML = {"accept": "text/html,*/*"}

shop = Bus("shop")


@shop.function("f", on="shop/f")
async def handled(ctx: Context, step: Step) -> None:
    """It is served."""


@pytest.fixture
def keyed(settings: Settings) -> Settings:
    return msgspec.structs.replace(
        settings,
        signing_key=SIGNING,
        signing_key_fallback=OLD,
        api_tokens=("another-token-of-it", TOKEN),
        event_keys=("another-event-key", EVENT_KEY),
    )


@pytest.fixture
def http(keyed: Settings) -> Generator[TestClient]:
    with TestClient(create_app(configured=keyed), base_url="http://localhost") as client:
        yield client


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def basic(password: str) -> dict[str, str]:
    return {"authorization": f"Basic {base64.b64encode(f'me:{password}'.encode()).decode()}"}


def asked_of(part: Site | Endpoint) -> list[tuple[NeedsRoute, str, str]]:
    """Each route with a method and a path of it, which a stream of events refuses. What is none of these has nobody who asks for its key."""
    routes = [route for route in part.routes if not (isinstance(route, Mount) and route.path == "/static")]
    assert all(isinstance(route, NeedsRoute | NeedsSocket) for route in routes)
    return [
        (route, method, f"{re.sub(r'[{][^}]+[}]', 'x', route.path)}?after=none")
        for route in routes
        if isinstance(route, NeedsRoute)
        for method in sorted(route.methods or ())
    ]


def parts(configured: Settings) -> list[Site | Endpoint]:
    return [
        create_app(shop, configured=configured),
        serve(shop, functions=[handled], configured=configured),
    ]


@asynccontextmanager
async def asking(
    part: Site | Endpoint,
) -> AsyncGenerator[Callable[..., Awaitable[tuple[int, dict[bytes, bytes], bytes]]]]:
    """Ask thousands of times as a server does: a client and its threads take most of a request's time."""
    async with part.router.lifespan_context(part):

        async def asked(
            method: str, path: str, headers: Mapping[str, str | bytes] | None = None
        ) -> tuple[int, dict[bytes, bytes], bytes]:
            address, _, query = path.partition("?")
            given = {"host": "localhost", "accept": "*/*", "content-length": "0"} | dict(headers or {})
            encoded = [
                (name.encode(), value if isinstance(value, bytes) else value.encode()) for name, value in given.items()
            ]
            scope = {
                "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
                "path": address, "raw_path": address.encode(), "query_string": query.encode(), "root_path": "",
                "headers": encoded, "client": ("127.0.0.1", 123), "server": ("localhost", 80),
            }  # fmt: skip
            begun: list[dict[str, Any]] = []
            said: list[bytes] = []
            bodies = iter([{"type": "http.request", "body": b"", "more_body": False}])
            over = asyncio.Event()

            async def receive() -> dict[str, Any]:
                for body in bodies:
                    return body
                await over.wait()
                return {"type": "http.disconnect"}

            async def send(message: MutableMapping[str, Any]) -> None:
                if message["type"] == "http.response.start":
                    begun.append(dict(message))
                    return
                said.append(message.get("body", b""))
                if not message.get("more_body"):
                    over.set()

            await part(scope, receive, send)
            assert over.is_set()
            return begun[0]["status"], dict(begun[0]["headers"]), b"".join(said)

        yield asked


RIGHT = {
    "read": [bearer(TOKEN), basic(TOKEN), bearer(SIGNING), bearer(hashed(SIGNING)), bearer(OLD), basic(SIGNING)],
    "app": [bearer(key) for key in (SIGNING, SIGNING[13:], hashed(SIGNING), f"signkey-test-{hashed(SIGNING)}", OLD, hashed(OLD))],
}  # fmt: skip
WRONG: list[dict[str, Any]] = [
    {}, bearer(""), bearer("undefined"), bearer(FOREIGN), bearer(hashed(FOREIGN)), bearer(EVENT_KEY), basic(""),
    basic(FOREIGN), {"authorization": f"Basic {TOKEN}"}, {"authorization": TOKEN}, {"authorization": f"Digest {TOKEN}"},
    {"authorization": "Basic é".encode()}, {"authorization": "Basic //4="}, {"x-api-key": TOKEN}, bearer(TOKEN[:-1]),
]  # fmt: skip


async def test_every_route_wants_a_key_and_one_that_opens_it(keyed: Settings) -> None:
    open_routes: list[str] = []
    for part in parts(keyed):
        async with asking(part) as asked:

            async def status(*request: Any) -> int:
                return (await asked(*request))[0]

            for route, method, path in asked_of(part):
                where = f"{method} {route.path}"
                if route.needs == "nothing":
                    open_routes.append(where)
                    assert await status(method, path) != 401, where
                    continue
                for headers in WRONG:
                    assert await status(method, f"{path}&key={TOKEN}", headers) == 401, where
                if route.needs == "listen":  # its token is in its address: tests/system/test_realtime.py
                    assert await status(method, path, bearer(SIGNING)) == 401
                    continue
                if route.needs == "publish":
                    assert await status(method, path, bearer(SIGNING)) == 401
                    continue
                right = RIGHT["app" if route.needs == "app" else "read"]
                for headers in right if method != "HEAD" else right[:1]:
                    assert await status(method, path, headers) != 401, where
                if route.needs == "app":
                    assert await status(method, path, bearer(TOKEN)) == 401, where
    assert open_routes == [
        "GET /health",
        "HEAD /health",
        "GET /ready",
        "HEAD /ready",
        "GET /login",
        "HEAD /login",
        "POST /login",
    ]


def test_every_socket_wants_a_key(keyed: Settings) -> None:
    for part in parts(keyed):
        with TestClient(part, base_url="http://localhost") as client:
            for route in part.routes:
                if isinstance(route, NeedsSocket) and route.needs != "nothing":
                    for headers in WRONG:
                        with pytest.raises(WebSocketDenialResponse) as refused:
                            client.websocket_connect(route.path, headers=headers).__enter__()
                        assert refused.value.status_code == 401, route.path


async def test_without_keys_nothing_asks_for_one(settings: Settings) -> None:
    for configured in (settings, msgspec.structs.replace(settings, event_keys=(EVENT_KEY,), app_hosts=("x.example",))):
        for part in parts(configured):
            async with asking(part) as asked:
                for route, method, path in asked_of(part):
                    if route.needs != "publish":
                        assert (await asked(method, path))[0] != 401
                _, headers, _ = await asked("GET", "/health" if isinstance(part, Site) else "/")
                assert headers[b"x-inngest-server-kind"] == b"dev"


def test_a_browser_is_asked_for_a_password_and_a_program_told_the_way(http: TestClient) -> None:
    page = http.get("/", headers=HTML)
    assert (page.status_code, page.headers["www-authenticate"]) == (401, 'Basic realm="Stepstream", charset="UTF-8"')
    assert "BUS_API_TOKENS" in page.text
    assert http.get("/", headers={**HTML, **basic(TOKEN)}).status_code == 200
    told = http.get("/v1/runs")
    assert (told.json()["status"], told.json()["code"], told.headers["www-authenticate"]) == (
        401,
        "unauthorized",
        "Bearer",
    )
    assert "is missing" in told.json()["error"]
    assert "is not one of this server's" in http.get("/v1/runs", headers=bearer(FOREIGN)).json()["error"]
    assert http.post("/fn/register", headers=bearer(TOKEN), json={}).json()["error"].startswith(
        "Authentication failed: the signing key"
    )  # fmt: skip


def test_a_form_of_a_foreign_page_is_refused_although_the_browser_sends_the_password(http: TestClient) -> None:
    headers = {**basic(TOKEN), "origin": "https://evil.example"}
    assert http.post("/runs/x/cancel", headers=headers).status_code == 403


def test_events_want_an_event_key_and_nothing_else_will_do(keyed: Settings, http: TestClient) -> None:
    event = {"name": "shop/f"}
    assert http.post(f"/e/{EVENT_KEY}", json=event).json()["status"] == 200
    for path in ("x", TOKEN, SIGNING, "é", "%ff"):
        refused = http.post(f"/e/{path}", json=event, headers=bearer(TOKEN))
        assert refused.status_code == 401
        assert (refused.json()["status"], refused.json()["error"]) == (401, "Event key not found")
    without = msgspec.structs.replace(keyed, event_keys=())
    with TestClient(create_app(configured=without), base_url="http://localhost") as client:
        assert "set BUS_EVENT_KEYS" in client.post("/e/x", json=event).json()["error"]


def test_sdks_are_told_that_here_is_no_dev_server(http: TestClient, settings: Settings) -> None:
    assert http.get("/dev", headers=bearer(SIGNING)).status_code == 404
    for path in ("/health", "/v1/runs", "/nowhere"):
        assert http.get(path).headers["x-inngest-server-kind"] == "cloud"
    expecting = {"x-inngest-expected-server-kind": "dev"}
    told = http.post("/fn/register", headers={**bearer(SIGNING), **expecting}, json={})
    assert (told.status_code, told.json()["error"].partition(":")[0]) == (400, "Expected server kind dev, got cloud")
    as_wanted = http.post(
        "/fn/register", headers={**bearer(SIGNING), "x-inngest-expected-server-kind": "cloud"}, json={}
    )
    assert "App ID required" in as_wanted.json()["error"]
    with TestClient(create_app(configured=settings), base_url="http://localhost") as client:
        told = client.post("/fn/register", headers={"x-inngest-expected-server-kind": "cloud"}, json={})
        assert "got dev: set INNGEST_DEV" in told.json()["error"]
        assert client.get("/dev").status_code == 200


def test_mounted_in_an_application_the_same_keys_count(keyed: Settings) -> None:
    host = Starlette()
    mount(host, "/bus", serve(shop, configured=keyed))
    with TestClient(host, base_url="http://localhost") as client:
        assert client.get("/bus/", headers=HTML).status_code == 401
        assert client.get("/bus/v1/runs", headers=basic(TOKEN)).status_code == 200
        assert client.post(f"/bus/e/{EVENT_KEY}", json={"name": "shop/f"}).status_code == 200


def test_no_key_is_in_an_answer_or_a_line_of_the_log(http: TestClient) -> None:
    with structlog.testing.capture_logs() as logs:
        answers = [http.get(path, headers={**HTML, **headers}) for path in ("/", "/v1/runs", "/runs/x", "/static/x")
                   for headers in (bearer(FOREIGN), basic(FOREIGN), basic(TOKEN))]  # fmt: skip
    told = "".join(f"{answer.text}{dict(answer.headers)}" for answer in answers) + str(logs)
    for secret in (SIGNING, OLD, FOREIGN, TOKEN, EVENT_KEY):
        assert secret not in told
        assert hashed(SIGNING) not in told


@pytest.mark.parametrize(
    ("host", "may"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("127.0.0.9", True), ("0.0.0.0", False),
                      ("::", False), ("10.1.2.3", False), ("shop.example", False)]
)  # fmt: skip
def test_where_others_reach_it_there_must_be_keys(host: str, may: bool) -> None:
    if may:
        check_address(host, 0, exposed=False).close()
        return
    with pytest.raises(ConfigError, match=r"BUS_SESSION_KEY, .*BUS_API_TOKENS .*BUS_SIGNING_KEY .*openssl rand"):
        check_address(host, 0, exposed=False)


def test_who_publishes_too_often_is_told_when_they_may_again_and_nothing_is_stored(
    settings: Settings, store: "redis.Redis"
) -> None:
    bounded = msgspec.structs.replace(
        settings,
        event_keys=("one", "other"),
        rate_limit=("address=4/1d", "key=2/1d"),
        api_tokens=("token-of-admins-1",),
    )
    with TestClient(create_app(configured=bounded), base_url="http://localhost") as http:
        told = [http.post(f"/e/{key}", json={"name": "a"}) for key in ("one", "one", "one", "other", "other", "guess")]
        assert [one.status_code for one in told] == [200, 200, 429, 200, 429, 429]
        assert store.xlen(keys.events("a")) == 3
        by_key, by_address = told[2], told[4]
        assert "with this event key: at most 2 within 86400 s" in by_key.json()["error"]
        assert "from this address: at most 4" in by_address.json()["error"]
        for one in (by_key, by_address):
            assert (one.json()["code"], int(one.headers["retry-after"]) > 20_000) == ("too_many", True)
        # It is about who publishes: others are served as ever.
        assert http.get("/v1/functions", headers={"authorization": "Bearer token-of-admins-1"}).status_code == 200
        assert http.get("/health").status_code == 200


def test_guesses_of_event_keys_count_for_the_address_that_guesses(settings: Settings) -> None:
    bounded = msgspec.structs.replace(settings, event_keys=("right",), rate_limit=("address=3/1d", "key=1/1d"))
    with TestClient(create_app(configured=bounded), base_url="http://localhost") as http:
        told = [http.post(f"/e/{key}", json={"name": "a"}).status_code for key in ("a", "a", "b", "right")]
        assert told == [401, 401, 401, 429]
