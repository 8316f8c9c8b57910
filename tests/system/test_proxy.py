"""The page behind a proxy with TLS: the log-in, whose address it is, live pages and WebSockets.

Each test runs behind nginx, with the block that docs/how-to/behind-a-proxy.md shows, and behind a small proxy of ours,
which hands the same headers on and is there on every machine.
"""

import asyncio
import contextlib
import json
import os
import re
import shutil
import ssl
import subprocess
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import msgspec
import pytest
from argon2 import PasswordHasher
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.web.connect.messages import PROTOCOL, Frame, Kind, StartResponse
from stepstream.web.trust.sessions import COOKIE
from tests.scripted_worker import Site, site
from tests.support import NGINX, ROOT, eventually, free_port
from tests.system.test_login import KEY, PASSWORD, field

if TYPE_CHECKING:
    import redis

NAME = "bus.shop.example"
TOKEN, SIGNING_KEY = "0123456789abcdef", f"signkey-test-{'ab' * 32}"
CLIENT, STRANGER = "127.0.0.2", "127.0.0.3"
"""Addresses of this machine that are not those of the proxy."""
HTML = {"accept": "text/html"}


class Behind:
    """A site behind a proxy, and clients of it that have addresses of their own."""

    def __init__(self, listening: Site, port: int, certificate: Path) -> None:
        self.site = listening
        self.port = port
        self.host = f"{NAME}:{port}"
        self.trusting = ssl.create_default_context(cafile=certificate)

    @contextlib.asynccontextmanager
    async def client(self, address: str = CLIENT, *, direct: bool = False) -> AsyncGenerator[httpx2.AsyncClient]:
        url = self.site.url if direct else f"https://127.0.0.1:{self.port}"
        headers = HTML if direct else {**HTML, "host": self.host}
        transport = httpx2.AsyncHTTPTransport(verify=self.trusting, local_address=address)
        async with httpx2.AsyncClient(transport=transport, base_url=url, headers=headers) as http:
            yield http


async def log_in(http: httpx2.AsyncClient, password: str = PASSWORD, **headers: str) -> httpx2.Response:
    page = (await http.get("/login")).text
    sent = {"token": field(page, "token"), "next": "", "name": "ada", "password": password}
    return await http.post("/login", data=sent, headers=headers)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate that signs itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("NOT RUN: no openssl on this machine, which makes the certificate")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    names = f"subjectAltName=DNS:{NAME},IP:127.0.0.1"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", f"/CN={NAME}", "-addext", names, "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


@pytest.fixture(params=["nginx", "ours"])
async def behind(
    request: pytest.FixtureRequest,
    settings: Settings,
    store: "redis.Redis",
    certificate: tuple[Path, Path],
    tmp_path: Path,
) -> AsyncGenerator[Behind]:
    if request.param == "nginx" and NGINX is None:
        pytest.skip("NOT RUN: no nginx on this machine (apt install nginx-light)")
    hashed = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    user = {"role": "admin", "password": hashed, "since": 1, "sessions": "of-ada"}
    store.hset(keys.users(), "ada", json.dumps(user))
    keyed = msgspec.structs.replace(
        settings,
        session_key=KEY,
        allow_hosts=(NAME,),
        api_tokens=(TOKEN,),
        signing_key=SIGNING_KEY,
        event_keys=("event-key",),
    )
    port = free_port()
    async with site(keyed) as listening:
        proxy = nginx if request.param == "nginx" else ours
        async with proxy(port, int(listening.url.rpartition(":")[2]), *certificate, tmp_path):
            yield Behind(listening, port, certificate[0])


@contextlib.asynccontextmanager
async def nginx(port: int, to: int, cert: Path, key: Path, folder: Path) -> AsyncGenerator[None]:
    """Run nginx with the block of the page."""
    page = (ROOT / "docs/how-to/behind-a-proxy.md").read_text()
    block = page.partition("```nginx\n")[2].partition("```")[0]
    for shown, tried in {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "/etc/ssl/bus.shop.example.pem": str(cert),
        "/etc/ssl/bus.shop.example.key": str(key),
        "127.0.0.1:8288": f"127.0.0.1:{to}",
    }.items():
        assert shown in block
        block = block.replace(shown, tried)
    temporary = "".join(f"{of}_temp_path {folder}/{of};" for of in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(
        f"{'user root;' if os.geteuid() == 0 else ''} daemon off; pid {folder}/pid; error_log stderr;"
        f"events {{}} http {{ access_log off; {temporary} {block} }}"
    )
    process = subprocess.Popen(
        [str(NGINX), "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL
    )
    try:

        async def listens() -> bool:
            assert process.poll() is None, "nginx has ended"
            with contextlib.suppress(OSError):
                (await asyncio.open_connection("127.0.0.1", port))[1].close()
                return True
            return False

        await eventually(listens, "nginx listens")
        yield
    finally:
        process.terminate()
        process.wait()


@contextlib.asynccontextmanager
async def ours(port: int, to: int, cert: Path, key: Path, _folder: Path) -> AsyncGenerator[None]:
    """Hand one request of each connection on, with the headers of nginx."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while block := await reader.read(65_536):
                writer.write(block)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
        dropped = ("x-forwarded-for:", "x-forwarded-proto:")
        is_upgrade = any(line.lower().startswith("upgrade:") for line in lines)
        kept = [
            line for line in lines if not line.lower().startswith(dropped if is_upgrade else (*dropped, "connection:"))
        ]
        kept += [f"X-Forwarded-For: {writer.get_extra_info('peername')[0]}", "X-Forwarded-Proto: https"]
        kept += [] if is_upgrade else ["Connection: close"]
        back, there = await asyncio.open_connection("127.0.0.1", to)
        there.write("\r\n".join([first, *kept, "", ""]).encode())
        await asyncio.gather(pass_on(reader, there), pass_on(back, writer))

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=context)
    yield
    server.close()


def sources(store: "redis.Redis") -> list[str]:
    return [fields["source"] for _, fields in store.xrange(keys.audit())]


async def test_one_logs_in_by_tls_and_the_cookie_goes_nowhere_else(behind: Behind, store: "redis.Redis") -> None:
    async with behind.client() as http:
        sent = await http.get("/runs")
        assert (sent.status_code, sent.headers["location"]) == (303, "/login?next=%2Fruns")
        assert "Secure" in (await http.head("/login")).headers["set-cookie"]
        done = await log_in(http, origin=f"https://{behind.host}")
        assert (done.status_code, done.headers["location"]) == (303, "/")
        for part in (f"{COOKIE}=", "Secure", "HttpOnly", "SameSite=lax"):
            assert part in done.headers["set-cookie"]
        page = await http.get("/runs")
        assert page.status_code == 200
        out = {"token": field(page.text, "token")}
        assert (await http.post("/logout", data=out, headers={"origin": "https://evil.example"})).status_code == 403
        assert (await http.get("/runs")).status_code == 200
        assert (await http.post("/logout", data=out, headers={"origin": f"https://{behind.host}"})).status_code == 303
        assert (await http.get("/runs")).status_code == 303
    assert sources(store)[0] == CLIENT


async def test_the_site_answers_to_the_name_it_was_given_and_to_no_other(behind: Behind) -> None:
    async with behind.client() as http:
        assert (await http.get("/health")).status_code == 200
        for named in ({"host": "evil.example"}, {"host": "evil.example", "x-forwarded-host": NAME}):
            assert (await http.get("/health", headers=named)).status_code == 421


async def test_an_address_is_the_client_s_own_whatever_it_writes(behind: Behind, store: "redis.Redis") -> None:
    forged = {"x-forwarded-for": "9.9.9.9", "forwarded": "for=9.9.9.9"}
    async with behind.client() as http:
        assert (await log_in(http, "not the password", **forged)).status_code == 401
    async with behind.client(STRANGER, direct=True) as http:
        assert (await log_in(http, "not the password", **forged)).status_code == 401
        done = await log_in(http, **forged, **{"x-forwarded-proto": "https"})
        assert done.status_code == 303
        assert "Secure" not in done.headers["set-cookie"]
    assert sources(store) == [CLIENT, STRANGER, STRANGER]
    counted = {key for key in store.keys("*:login:*") if re.search(r"\{[\d.]+\}$", key)}
    assert counted == {keys.login(CLIENT), keys.login(STRANGER)}


@pytest.mark.parametrize(("path", "begins"), [("/live?of=all", b"retry: 2000"), ("/v1/live", b"event: now")])
async def test_what_an_open_page_is_sent_is_not_held_back(behind: Behind, path: str, begins: bytes) -> None:
    async with (
        behind.client() as http,
        http.stream("GET", path, headers={"authorization": f"Bearer {TOKEN}"}) as events,
    ):
        assert events.status_code == 200
        text, told = b"", events.aiter_bytes()
        while begins not in text:  # it comes while the answer goes on
            text += await anext(told)


async def test_a_worker_connects_by_a_websocket_over_tls(behind: Behind) -> None:
    async with behind.client() as http:
        answer = await http.post("/v0/connect/start", headers={"authorization": f"Bearer {SIGNING_KEY}"})
        assert answer.status_code == 200, answer.text
    endpoint = StartResponse.decoded(answer.content).gateway_endpoint
    assert endpoint == f"wss://{behind.host}/v0/connect"
    async with connect(endpoint, host="127.0.0.1", ssl=behind.trusting, subprotocols=[Subprotocol(PROTOCOL)]) as socket:
        assert Frame.decoded(await socket.recv()).kind == Kind.HELLO  # type: ignore[arg-type]


async def test_an_event_and_a_stream_pass(behind: Behind, store: "redis.Redis") -> None:
    came = asyncio.Event()

    async def pieces() -> AsyncGenerator[bytes]:
        yield b"a"
        await came.wait()
        yield b"b"

    async with behind.client() as http:
        sent = asyncio.create_task(
            http.post(
                "/v1/realtime/publish/tee?channel=c",
                content=pieces(),
                headers={"authorization": f"Bearer {SIGNING_KEY}"},
            )
        )

        async def published() -> bool:
            return store.xlen(keys.live("c")) == 1

        await eventually(published, "the first piece, before the second is sent")
        came.set()
        assert (await sent).status_code == 200
        event = await http.post("/e/event-key", json={"name": "a", "data": {}})
        assert event.status_code == 200, event.text
    assert store.xlen(keys.events("a")) == 1
