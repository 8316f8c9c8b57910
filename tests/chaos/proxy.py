"""A network that misbehaves by a seeded plan, between whoever uses Redis and the server; a process of its own.

Run as a module it prints its port, mends itself at SIGUSR1, and at the end of its input prints how often it did harm.
"""

import asyncio
import os
import random
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Literal

import hiredis

Fault = Literal["reply lost", "request lost", "late", "split", "reset in a reply", "silent", "narrow"]
FAULTS: tuple[Fault, ...] = ("reply lost", "request lost", "late", "split", "reset in a reply", "silent")
SILENT_S = 1.5
MOST_ARGUMENTS = 3_999
"""What some managed servers take of one command: `narrow` does no harm, and counts the commands that have more."""


class Proxy:
    """Forwards to `port`, and does `fault` to about one chunk in `one_in`."""

    def __init__(self, port: int, fault: Fault, seed: int, one_in: int = 12) -> None:
        command = [sys.executable, "-m", "tests.chaos.proxy", str(port), fault, str(seed), str(one_in)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent.parent
        )
        assert self._process.stdout is not None
        self.url = f"redis://127.0.0.1:{int(self._process.stdout.readline())}/0"

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def mend(self) -> None:
        """Do no harm from now on."""
        self._process.send_signal(signal.SIGUSR1)

    def end(self) -> int:
        """End; return how often harm was done."""
        if self._process.poll() is not None:
            return 0
        told, _ = self._process.communicate()
        return int(told)


class _Proxying:
    def __init__(self, port: int, fault: str, seed: int, one_in: int) -> None:
        self.port = port
        self.fault = fault
        self.random = random.Random(seed)
        self.one_in = one_in
        self.on = True
        self.done = 0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, self.mend)
        server = await asyncio.start_server(self.guest, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await loop.run_in_executor(None, sys.stdin.read)
        print(self.done, flush=True)
        os._exit(0)  # connections that are open end with the process

    def mend(self) -> None:
        self.on = False

    async def guest(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        try:
            far, out = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            back.close()
            return
        pumps = [asyncio.ensure_future(self.pump(*way)) for way in ((near, out, "up"), (far, back, "down"))]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        for writer in (out, back):
            writer.close()

    def strikes(self, direction: str) -> bool:
        is_its_way = (direction == "up") == (self.fault == "request lost")
        return self.on and self.fault != "narrow" and is_its_way and self.random.randrange(self.one_in) == 0

    async def pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, direction: str) -> None:
        commands = hiredis.Reader()
        try:
            while data := await source.read(65_536):
                if self.fault == "narrow" and direction == "up":
                    commands.feed(data)
                    while command := commands.gets():
                        self.done += len(command) > MOST_ARGUMENTS
                if not self.strikes(direction):
                    sink.write(data)
                    await sink.drain()
                    continue
                self.done += 1
                if not await self.harm(data, sink):
                    return
        except OSError:
            return

    async def harm(self, data: bytes, sink: asyncio.StreamWriter) -> bool:
        """Return whether the connection goes on."""
        if self.fault == "late":
            await asyncio.sleep(0.2)
            sink.write(data)
        elif self.fault == "split":
            for start in range(0, len(data), 3):
                sink.write(data[start : start + 3])
                await sink.drain()
                await asyncio.sleep(0)
        elif self.fault == "silent":  # a half-open link: nothing comes, nothing breaks
            await asyncio.sleep(SILENT_S)
            return False
        elif self.fault == "reset in a reply":
            sink.write(data[: len(data) // 2])
            await sink.drain()
            sink.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sink.transport.abort()
            return False
        else:
            return False
        await sink.drain()
        return True


if __name__ == "__main__":
    asyncio.run(_Proxying(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])).run())
