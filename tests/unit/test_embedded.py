"""The server of `bus dev`: it dies, and its data and its address are there again."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from stepstream.bus.errors import ConfigError
from stepstream.bus.process.dev_server import held, read_note
from stepstream.bus.process.tasks import cancelled
from stepstream.web.dev.embedded import embedded
from tests.support import eventually


async def _asked(port: int, command: bytes) -> bytes:
    """Return the first bytes of the answer of a server; none when it gives none."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return b""
    try:
        writer.write(command + b"\r\n")
        return await reader.read(4_096)
    except OSError:
        return b""
    finally:
        writer.close()


async def _pid(port: int) -> int:
    found = await _asked(port, b"INFO server")
    return next((int(line[11:]) for line in found.splitlines() if line.startswith(b"process_id:")), 0)


async def test_one_that_dies_is_started_again_with_its_data_at_its_port(tmp_path: Path) -> None:
    """`bus dev` stayed up without Redis until somebody noticed."""
    with held(tmp_path), embedded(tmp_path) as server:
        url, noted = server.url, read_note(tmp_path)["run_id"]
        keeping = asyncio.ensure_future(server.keep())
        for times in range(2):
            assert await _asked(server.port, b"INCR x") == f":{times + 1}\r\n".encode()
            os.kill(await _pid(server.port), signal.SIGKILL)

            async def another(noted: object = noted) -> bool:
                return read_note(tmp_path)["run_id"] != noted

            await eventually(another, "another server")
            noted = read_note(tmp_path)["run_id"]
        assert await _asked(server.port, b"GET x") == b"$1\r\n2\r\n"
        assert server.url == url
        # That it closes a connection is no death.
        stands = await _pid(server.port)
        await _asked(server.port, b"CLIENT KILL TYPE normal SKIPME yes")
        await asyncio.sleep(0)
        assert await _pid(server.port) == stands
        assert not keeping.done()
        await cancelled(keeping)


async def test_a_port_that_is_taken_meanwhile_ends_it_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepstream.web.dev.embedded._FREE_WITHIN_S", 0.0)
    with held(tmp_path), embedded(tmp_path) as server:
        os.kill(await _pid(server.port), signal.SIGKILL)

        async def gone() -> bool:
            return await _pid(server.port) == 0

        await eventually(gone, "the server has gone")
        taken = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", server.port)
        async with taken:
            with pytest.raises(ConfigError, match=rf"its port, {server.port}, is in use: start bus dev again"):
                await server.keep()
