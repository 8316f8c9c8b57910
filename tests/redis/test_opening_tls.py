"""A server that speaks TLS, or does not, or is not trusted: what is said leads out, and not to starting another server."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from stepstream.bus.errors import StoreUnavailable
from stepstream.bus.values.address import address
from stepstream.bus.wire.connection.opening import opened


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("NOT RUN: no openssl on this machine, which makes the certificate")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=redis.internal", "-addext", "subjectAltName=DNS:redis.internal", "-keyout", str(key),
         "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


@pytest.fixture
async def tls(certificate: tuple[Path, Path]) -> AsyncGenerator[int]:
    """The port of a server that speaks TLS."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    server = await asyncio.start_server(silent, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def told(url: str) -> str:
    with pytest.raises(StoreUnavailable) as refused:
        await opened(address(url), 2.0, "test")
    return str(refused.value)


async def test_a_server_that_speaks_tls_is_not_spoken_to_without(tls: int) -> None:
    said = await told(f"redis://127.0.0.1:{tls}/0")
    assert said.endswith("if it speaks TLS at this port, BUS_REDIS_URL begins with rediss://")


async def test_a_server_without_tls_is_not_spoken_to_with_it(server_url: str) -> None:
    said = await told(f"rediss://{server_url.rpartition('@')[2].removeprefix('redis://')}")
    assert said.endswith("if it speaks no TLS at this port, BUS_REDIS_URL begins with redis://")


async def test_a_certificate_that_nobody_knows_or_of_another_name_is_told_with_the_setting(
    tls: int, certificate: tuple[Path, Path]
) -> None:
    for more in ("", f"?ssl_ca_certs={certificate[0]}"):
        said = await told(f"rediss://127.0.0.1:{tls}/0{more}")
        assert "certificate verify failed" in said
        assert said.endswith("?ssl_ca_certs=/path/ca.pem, and the host as the certificate does")
