"""An open page: the site of a store; its front page is asked for once a second, as one that is live is at most."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import AsyncGenerator

_EVERY_S = 1.0


@contextlib.asynccontextmanager
async def open_page(redis_url: str) -> AsyncGenerator[None]:
    """Keep the front page open; a page that can't be had ends the measuring with its error."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "stepstream", "serve", "--port", str(port),
        env={**os.environ, "BUS_REDIS_URL": redis_url},
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while not await _listens(port):
            assert process.returncode is None, "bus serve has ended"
            await asyncio.sleep(0.05)
        async with asyncio.TaskGroup() as tasks:
            looking = tasks.create_task(_look(f"http://127.0.0.1:{port}/"))
            yield
            looking.cancel()
    finally:
        process.terminate()
        await process.wait()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def _look(url: str) -> None:
    def take() -> None:
        with urllib.request.urlopen(url, timeout=5) as answer:  # one that is no page raises
            answer.read()

    while True:
        await asyncio.to_thread(take)
        await asyncio.sleep(_EVERY_S)
