"""Behind a proxy: whose word is taken for who asks, what the log says of one that is not believed, below which path."""

import os

import pytest
from structlog.testing import capture_logs
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from stepstream.bus.errors import ConfigError
from stepstream.web.paths import check_root
from stepstream.web.serving.proxies import NAME, Heard, check_believed
from tests import forks

PROXY = "172.18.0.5"


@pytest.mark.parametrize("given", ["", "10.0.3.7", "10.0.3.0/24, ::1", "fd00::/8,"])
def test_addresses_and_networks_are_taken(given: str) -> None:
    with capture_logs() as said:
        check_believed({NAME: given})
    assert said == []


@pytest.mark.parametrize("given", ["proxy", "10.0.3.7/24", "10.0.3.0/33", "127.0.0.1,bus.shop.example", "*,10.0.3.7"])
def test_what_nobody_has_as_an_address_is_refused(given: str) -> None:
    """uvicorn takes it for a name, and then believes the proxy nothing."""
    with pytest.raises(ConfigError, match=r"^FORWARDED_ALLOW_IPS: '.*' is no address of a proxy: write 10.0.3.7"):
        check_believed({NAME: given})


def test_that_everybody_is_believed_is_said() -> None:
    with capture_logs() as said:
        check_believed({NAME: "*"})
    assert "believes everybody" in said[0]["event"]


async def asked(believed: str, headers: list[tuple[bytes, bytes]], times: int = 2) -> list[str]:
    """Return what the log says of requests that come from a proxy."""
    clients: list[object] = []

    async def site(scope: object, receive: object, send: object) -> None:
        clients.append(scope)

    app = ProxyHeadersMiddleware(Heard(site), trusted_hosts=believed)  # as uvicorn puts it around
    with capture_logs() as said:
        for _ in range(times):
            scope = {"type": "http", "scheme": "http", "client": (PROXY, 1), "headers": headers}
            await app(scope, None, None)  # type: ignore[arg-type]
    assert len(clients) == times
    return [one["event"] for one in said]


async def test_a_proxy_that_is_not_believed_is_named_once_with_the_way_out() -> None:
    [told] = await asked("127.0.0.1", [(b"x-forwarded-for", b"9.9.9.9")])
    assert told.startswith(f"who connects from {PROXY} names others")
    assert told.endswith(f"FORWARDED_ALLOW_IPS={PROXY}")


@pytest.mark.parametrize("believed", [PROXY, "172.18.0.0/16", "*"])
async def test_one_that_is_believed_is_not(believed: str) -> None:
    assert await asked(believed, [(b"x-forwarded-for", b"1.2.3.4, 9.9.9.9")]) == []


async def test_who_names_nobody_is_not() -> None:
    assert await asked("127.0.0.1", []) == []


def test_bus_serve_says_what_is_no_address(url: str) -> None:
    done = forks.bus("serve", env={**os.environ, "BUS_REDIS_URL": url, NAME: "proxy"})
    assert done.returncode == 1
    assert "FORWARDED_ALLOW_IPS: 'proxy' is no address of a proxy" in done.stderr


@pytest.mark.parametrize("given", ["bus", "https://shop.example/bus", "/bus//x", "/a b", "//bus"])
def test_a_root_path_that_is_no_path_is_refused(given: str) -> None:
    """Links began with it: http://127.0.0.1:8288bus."""
    with pytest.raises(ConfigError, match=r"^--root-path '.*' is no path: write /bus"):
        check_root(given)


@pytest.mark.parametrize(("given", "taken"), [("", ""), ("/", ""), ("/bus", "/bus"), ("/tools/bus/", "/tools/bus")])
def test_a_root_path_is_taken_without_a_slash_at_its_end(given: str, taken: str) -> None:
    assert check_root(given) == taken
