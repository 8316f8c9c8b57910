"""Requests as bytes on a socket: what could be read in two ways is refused, and whatever comes, the site goes on."""

import asyncio
from collections.abc import AsyncGenerator

import msgspec
import pytest
import redis
import structlog

from stepstream.bus.settings import Settings
from tests.system.test_live import Site, serving

KEY, TOKEN, SIGNING = "event-key-1", "token-of-an-admin-1", "signkey-test-" + "a" * 64
HEAD = b"Host: localhost\r\nConnection: close\r\n"
EVENT = b'{"name":"a"}'
CHUNKED = b"c\r\n" + EVENT + b"\r\n0\r\n\r\n"
BEARER = f"Authorization: Bearer {TOKEN}\r\n".encode()
LONG = 1024 * 1024


@pytest.fixture
async def site(settings: Settings) -> AsyncGenerator[Site]:
    keyed = msgspec.structs.replace(settings, event_keys=(KEY,), api_tokens=(TOKEN,), signing_key=SIGNING)
    async with serving(keyed) as running:
        yield running


async def said(site: Site, request: bytes) -> bytes:
    """Return all that is answered until the site closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(site.url.rpartition(":")[2]))
    answered = b""
    try:
        writer.write(request)
        while got := await reader.read(65_536):
            answered += got
    except ConnectionError:  # it has closed before it had read all
        pass
    finally:
        writer.close()
    return answered


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def posted(headers: bytes, body: bytes = EVENT) -> bytes:
    return f"POST /e/{KEY} HTTP/1.1\r\n".encode() + HEAD + headers + b"\r\n" + body


LENGTH = f"Content-Length: {len(EVENT)}\r\n".encode()


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        (LENGTH, EVENT, 200),
        (b"Transfer-Encoding: chunked\r\n", CHUNKED, 200),
        (LENGTH + b"Transfer-Encoding: chunked\r\n", CHUNKED, 400),
        (b"Transfer-Encoding: chunked\r\n" + LENGTH, CHUNKED, 400),
        (LENGTH + b"Content-Length: 5\r\n", EVENT, 400),
        (b"Content-Length: -1\r\n", EVENT, 400),
        (b"Content-Length: +12\r\n", EVENT, 400),
        (b"Content-Length: 0x0c\r\n", EVENT, 400),
        ("Content-Length: ١٢\r\n".encode(), EVENT, 400),
        (b"Content-Length : 12\r\n", EVENT, 400),
        (b"Transfer-Encoding: xchunked\r\n", CHUNKED, 400),
        (b"Transfer-Encoding: gzip, chunked\r\n", CHUNKED, 400),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", CHUNKED, 400),
        (LENGTH + b"Content-Type: text/plain\r\nContent-Type: application/json\r\n", EVENT, 400),
        (LENGTH + b"Content-Encoding: identity\r\nContent-Encoding: gzip\r\n", EVENT, 400),
        (LENGTH + b"Origin: http://localhost\r\nOrigin: https://evil.example\r\n", EVENT, 400),
        (b"Content-Length: 1000000000\r\n", EVENT, 413),
    ],
)  # fmt: skip
async def test_a_body_whose_end_or_kind_could_be_read_in_two_ways_is_refused_and_nothing_stored(
    site: Site, store: "redis.Redis", headers: bytes, body: bytes, expected: int
) -> None:
    # What follows would be a second request to who has read the first one's end elsewhere.
    answer = await said(site, posted(headers, body) + posted(LENGTH))
    assert status(answer) == expected, answer
    assert answer.count(b"HTTP/1.1 ") == 1, answer
    assert store.exists("bus:events:{a}") == (1 if expected == 200 else 0)


@pytest.mark.parametrize(
    "headers",
    [
        BEARER + b"Authorization: Bearer another\r\n",
        b"Authorization: Bearer another\r\n" + BEARER,
        BEARER + BEARER,
        BEARER + b"aUTHORIZATION: Basic eDp5\r\n",
    ],
)
async def test_two_authorizations_are_refused_whichever_of_them_is_right(site: Site, headers: bytes) -> None:
    asked = b"GET /v1/functions HTTP/1.1\r\n" + HEAD
    assert status(await said(site, asked + BEARER + b"\r\n")) == 200
    answer = await said(site, asked + headers + b"\r\n")
    assert status(answer) == 400
    assert b"authorization is there 2 times" in answer
    assert TOKEN.encode() not in answer


@pytest.mark.parametrize(
    "line",
    [
        b"Authorization: Bearer " + b"a" * LONG, b"Authorization: Bearer " + b"a" * 60_000, "Authorization: Bearer é".encode(),
        "Authorization: Bearer é".encode("latin-1"), b"Authorization: Basic \xff\xfe", b"Authorization: Basic " + b"=" * 60_000,
        b"Authorization: Bearer", b"Authorization: Bearer ", b"Authorization: " + TOKEN.encode(),
        f"Authorization: Bearer {TOKEN}x".encode(), f"Authorization: Bearer {TOKEN[:-1]}".encode(),
        f"Authorization: Bearer {TOKEN[:-1]}2".encode(), f"Authorization: Bearer {TOKEN}, Bearer x".encode(),
        f"Authorization: Bearer\t{TOKEN}".encode(), f"X-Authorization: Bearer {TOKEN}".encode(),
    ],
)  # fmt: skip
async def test_what_is_no_token_of_ours_opens_nothing_and_breaks_nothing(site: Site, line: bytes) -> None:
    with structlog.testing.capture_logs() as logged:
        answer = await said(site, b"GET /v1/functions HTTP/1.1\r\n" + HEAD + line + b"\r\n\r\n")
    # A line longer than a request may be is no request: it is refused before anybody reads what it says.
    assert status(answer) == (400 if len(line) > LONG else 401), answer
    assert [one for one in logged if one["log_level"] == "error"] == []


@pytest.mark.parametrize(
    "target",
    ["/e/event-key-2", f"/e/{KEY}%0a", f"/e/{KEY}%20", f"/e/{KEY}%00", "/e/%c3%a9", "/e/%ff%fe", "/e/x"],
)
async def test_what_is_no_event_key_of_ours_stores_nothing(site: Site, store: "redis.Redis", target: str) -> None:
    answer = await said(site, f"POST {target} HTTP/1.1\r\n".encode() + HEAD + LENGTH + b"\r\n" + EVENT)
    assert status(answer) == 401, answer
    assert not store.exists("bus:events:{a}")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"OPTIONS * HTTP/1.1", 400), (b"PRI * HTTP/2.0", 400), (b"CONNECT localhost:80 HTTP/1.1", 400),
        (b"GET http://evil.example/health HTTP/1.1", 400), (b"GET //evil.example/health HTTP/1.1", 404),
        (b"TRACE /health HTTP/1.1", 405), (b"FOO /health HTTP/1.1", 405), (b"\x16\x03\x01\x02\x00\x01", 400),
        (b"GET /" + b"a" * LONG + b" HTTP/1.1", 400), (b"GET /health HTTP/1.1", 200),
    ],
)  # fmt: skip
async def test_a_request_for_what_is_no_path_or_by_no_method_is_refused_and_is_no_error_of_ours(
    site: Site, line: bytes, expected: int
) -> None:
    with structlog.testing.capture_logs() as logged:
        answer = await said(site, line + b"\r\n" + HEAD + b"\r\n")
    assert status(answer) == expected, answer
    assert [one for one in logged if one["log_level"] == "error"] == []


async def test_no_header_and_no_field_makes_another_method_of_one(site: Site) -> None:
    for more in (b"X-HTTP-Method-Override: DELETE\r\n", b"X-HTTP-Method: DELETE\r\n", b"X-Method-Override: DELETE\r\n"):
        for path in (b"/v1/functions/t-f", b"/v1/functions/t-f?_method=DELETE"):
            asked = b"POST " + path + b" HTTP/1.1\r\n" + HEAD + BEARER + more + b"Content-Length: 0\r\n\r\n"
            answer = await said(site, asked)
            assert status(answer) == 405, answer
            assert b"DELETE" in answer


async def test_a_preflight_of_a_foreign_page_is_given_no_leave(site: Site) -> None:
    asked = HEAD + b"Origin: https://evil.example\r\nAccess-Control-Request-Method: POST\r\n\r\n"
    for target in (f"/e/{KEY}".encode(), b"/v1/functions", b"/invoke/t-f", b"/"):
        answer = await said(site, b"OPTIONS " + target + b" HTTP/1.1\r\n" + asked)
        assert status(answer) == 405, answer
        assert b"access-control-" not in answer.lower()
