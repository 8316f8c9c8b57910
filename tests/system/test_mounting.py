"""The site in somebody's application: under any prefix, behind a proxy, with and without its lifespan."""

import contextlib
from collections.abc import AsyncGenerator, Callable

import httpx2
import pytest
import redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from stepstream import Bus, ConfigError, mount, serve
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys

pytestmark = pytest.mark.usefixtures("in_environment")
HTML = {"accept": "text/html"}


def connections(store: "redis.Redis", *names: str) -> int:
    return sum(client["name"] in names for client in store.client_list())


def test_a_mounted_site_answers_with_and_without_its_slash_and_redirects_nowhere() -> None:
    """A redirect to /bus/ names the host and the scheme that the host sees, not those of the proxy before it."""
    host = Starlette(routes=[Route("/busy", lambda _request: PlainTextResponse("mine"))])
    mount(host, "/bus", serve(Bus("t")))
    with TestClient(host, base_url="http://localhost", follow_redirects=False) as http:
        for path in ("/bus", "/bus/"):
            page = http.get(path, headers=HTML)
            assert (page.status_code, 'href="/bus/"' in page.text) == (200, True)
        assert http.get("/busy").text == "mine"
        assert http.get("/bus/v1/runs").json()["data"] == []
        assert http.get("/bus/nothing", headers=HTML).status_code == 404
        assert http.post("/bus").status_code == 405


def test_mount_closes_what_it_opened_after_the_hosts_own_end(store: "redis.Redis") -> None:
    app, seen = Bus("t"), list[int]()

    @contextlib.asynccontextmanager
    async def lifespan(_host: Starlette) -> AsyncGenerator[dict[str, str]]:
        yield {"mine": "state"}
        await app.send("last", {})  # who ends may still publish
        seen.append(connections(store, "bus-web", "send:t"))

    async def state(request: Request) -> Response:
        return PlainTextResponse(request.state.mine)

    host = Starlette(routes=[Route("/mine", state)], lifespan=lifespan)
    mount(host, "/bus", serve(app))
    with TestClient(host, base_url="http://localhost") as http:
        assert http.get("/mine").text == "state"
        assert http.get("/bus/ready").json() == {"status": "ready"}
    assert seen[0] > 0
    assert connections(store, "bus-web", "send:t") == 0


def asked(app: ASGIApp) -> httpx2.AsyncClient:
    """A client in the test's own loop; no lifespan is run."""
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://localhost")


async def test_a_site_closes_its_connection_also_where_whoever_runs_it_ends_with_an_error(store: "redis.Redis") -> None:
    site = serve(Bus("t"))

    async def served() -> None:
        async with site.router.lifespan_context(site), asked(site) as http:
            assert (await http.get("/ready")).json() == {"status": "ready"}
            assert connections(store, "bus-web") > 0
            raise RuntimeError("the host's own")

    with pytest.raises(RuntimeError, match="the host's own"):
        await served()
    assert connections(store, "bus-web") == 0


async def test_a_host_whose_lifespan_nobody_runs_serves_all_the_same() -> None:
    host, site = Starlette(), serve(Bus("t"))
    mount(host, "/bus", site)
    async with asked(host) as http:
        assert (await http.get("/bus/ready")).json() == {"status": "ready"}
        assert (await http.post("/bus/e/k", json={"name": "a"})).status_code == 200
    await site.close()


def told(prefix: str, *, is_taken_off: bool) -> Callable[[ASGIApp], ASGIApp]:
    """What `FastAPI(root_path=prefix)` does, behind a proxy that takes the prefix off the path, or leaves it there."""

    def around(app: ASGIApp) -> ASGIApp:
        async def with_root(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                scope["root_path"] = prefix
                scope["path"] = scope["path"].removeprefix(prefix) if is_taken_off else scope["path"]
            await app(scope, receive, send)

        return with_root

    return around


@pytest.mark.parametrize("is_taken_off", [True, False], ids=["the proxy takes it off", "the proxy leaves it"])
@pytest.mark.parametrize("mounts", [mount, Starlette.mount], ids=["mount", "the host's own mount"])
async def test_behind_a_proxy_with_a_prefix_all_is_found_and_links_have_it(
    mounts: Callable[[Starlette, str, ASGIApp], None], is_taken_off: bool
) -> None:
    """With the prefix told to the host and taken off by the proxy, all was 404: Starlette's Mount then looks in vain."""
    host, site, place = Starlette(), serve(Bus("t")), "/shop/tools/bus"
    mounts(host, "/tools/bus", site)
    async with asked(told("/shop", is_taken_off=is_taken_off)(host)) as http:
        page = await http.get(f"{place}/", headers=HTML)
        assert page.status_code == 200
        for link in ("href=", "src=", "action="):
            assert f'{link}"/' not in page.text.replace(f'{link}"{place}/', "")
        assert (await http.get(f"{place}/static/style.css")).status_code == 200
        assert (await http.get(f"{place}/v1/runs")).json()["data"] == []
        lost = await http.get(f"{place}/static/nothing.css", headers=HTML)
        assert (lost.status_code, f'href="{place}/"' in lost.text) == (404, True)
        assert (await http.get(f"{place}/nothing")).json()["error"] == "there is nothing at '/nothing'"
    await site.close()


def test_two_sites_in_one_application_each_have_their_redis_and_their_links(url: str) -> None:
    host, other = Starlette(), Settings(redis_url=url.replace("/0", "/1"))
    mount(host, "/bus/other", serve(Bus("t"), configured=other))
    mount(host, "/bus", serve(Bus("t")))
    with TestClient(host, base_url="http://localhost") as http:
        assert http.post("/bus/e/k", json={"name": "here"}).status_code == 200
        assert http.post("/bus/other/e/k", json={"name": "there"}).status_code == 200
        assert 'href="/bus/other/"' in http.get("/bus/other", headers=HTML).text
        assert 'href="/bus/"' in http.get("/bus", headers=HTML).text
    for address, name in ((url, b"here"), (other.redis_url, b"there")):
        with redis.Redis.from_url(address) as store:
            assert store.zrange(keys.event_names(), 0, -1) == [name]


async def test_mounted_below_a_mount_it_knows_where_it_stands() -> None:
    inner, site = Starlette(), serve(Bus("t"))
    mount(inner, "/bus", site)
    async with asked(Starlette(routes=[Mount("/deep", inner)])) as http:
        assert '"/deep/bus/static/style.css"' in (await http.get("/deep/bus", headers=HTML)).text
    await site.close()  # what is mounted has no lifespan, nor has what is mounted in it


@pytest.mark.parametrize("path", ["bus", "", "/"])
def test_a_path_that_is_no_place_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="must begin with a slash and name a place, as in /bus"):
        mount(Starlette(), path, serve(Bus("t")))


def test_the_environment_is_read_when_the_site_connects(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """A test imports the application, and only then says where its Redis is: the page looked at another one."""
    monkeypatch.setenv("BUS_REDIS_URL", "redis://127.0.0.1:1/0")
    host = Starlette()
    mount(host, "/bus", serve(Bus("t")))
    monkeypatch.setenv("BUS_REDIS_URL", url)
    with TestClient(host, base_url="http://localhost") as http:
        assert http.get("/bus/ready").json() == {"status": "ready"}
