"""A proxy that knows commands: it answers some itself, breaks at one that is named, and leads to another server.

A process of its own, told what to do by a line of JSON each; replies stay in the order of their commands.
"""

import asyncio
import json
import os
import random
import socket
import struct
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any, Literal

CLIENTS = "ERR max number of clients reached"
WORDS = (
    CLIENTS,
    "TOO_MANY_REQUESTS slow down",
    "READONLY You can't write against a read only replica.",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
    "LOADING Redis is loading the dataset in memory",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "ERR the upstream is being moved",
    "PLEASEWAIT a word nobody has heard of",
)
"""Words a server, or what stands before one, says when it cannot serve; none is about the command's own arguments."""

At = Literal["request", "reply"]


class RespProxy:
    """Leads to `port`. A command's `name` is its script's (`run_save`), its own (`XACK`), both words (`CLIENT ID`) or *.

    `holding` narrows it to commands one of whose arguments contains that text.
    """

    def __init__(self, port: int, seed: int = 0) -> None:
        from tests.scripts import all_scripts  # not in its process: to import the code there takes half a second

        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.resp", str(port), str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent.parent,
        )
        listens_at = self._tell({script.sha: name for name, script in all_scripts().items()})
        self.url = f"redis://127.0.0.1:{listens_at}/0"

    def __enter__(self) -> "RespProxy":
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def refuse(self, words: str | Sequence[str], share: float = 1.0, name: str = "*", holding: str = "") -> None:
        """Answer about `share` of the commands with one of `words` from now on; they never reach the server."""
        words = [words] if isinstance(words, str) else list(words)
        self._tell({"do": "refuse", "words": words, "share": share, "name": name, "holding": holding})

    def answer(self, word: str, name: str, nth: int = 1, times: int = 1, holding: str = "") -> None:
        """Answer the nth such command from now on, and the `times` - 1 after it, with a word."""
        self._tell({"do": "answer", "words": [word], "name": name, "nth": nth, "times": times, "holding": holding})

    def cut(self, name: str, nth: int = 1, times: int = 1, *, at: At = "reply", holding: str = "") -> None:
        """Break the connection of the nth such command: at its reply (it was done), or before it is passed on."""
        self._tell({"do": f"cut at {at}", "name": name, "nth": nth, "times": times, "holding": holding})

    def point(self, port: int, *, keep_open: bool = True) -> None:
        """Lead new connections to another server; those that are open stay with theirs unless `keep_open` is False."""
        self._tell({"do": "point", "port": port, "keep_open": keep_open})

    def mend(self) -> None:
        """Forget all refusals and cuts."""
        self._tell({"do": "mend"})

    def forget(self) -> None:
        """Forget all refusals and cuts, and how often they came."""
        self._tell({"do": "forget"})

    def told(self) -> "Counter[str]":
        """Return how often each word was answered, and `cut` for connections that were broken."""
        return Counter(self._tell({"do": "tell"}))

    def end(self) -> None:
        """End; all connections break."""
        if self._process.poll() is None:
            self._process.communicate()

    def _tell(self, order: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._heard()

    def _heard(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


class _Rule:
    def __init__(self, order: dict[str, Any]) -> None:
        self.do: str = order["do"]
        self.words: list[str] = order.get("words", [])
        self.name: str = order["name"]
        self.holding: bytes = order["holding"].encode()
        self.share: float = order.get("share", 1.0)
        self.nth: int = order.get("nth", 1)
        self.left: int = order.get("times", 0)
        self.seen = 0

    def strikes(self, names: set[str], command: list[bytes], dice: random.Random) -> bool:
        if self.name != "*" and self.name not in names:
            return False
        if self.holding and not any(self.holding in part for part in command):
            return False
        if self.do == "refuse":
            return dice.random() < self.share
        self.seen += 1
        if self.seen < self.nth or not self.left:
            return False
        self.left -= 1
        return True


def value_end(data: bytearray, start: int) -> int | None:
    """Return where the RESP (2 or 3) value that begins at `start` ends; None when it is not all there."""
    line = data.find(b"\r\n", start)
    if line < 0:
        return None
    kind, after = data[start : start + 1], line + 2
    if kind in b"+-:_#,(":
        return after
    count = int(data[start + 1 : line]) * (2 if kind == b"%" else 1)
    if kind in b"$=!":
        after += count + 2 if count >= 0 else 0  # nil has no end of its own
        return after if after <= len(data) else None
    end: int | None = after
    for _ in range(count):
        end = value_end(data, end)
        if end is None:
            return None
    return end


def parts(data: bytes) -> list[bytes]:
    """Return the words of a whole command."""
    found, at = [], data.index(b"\r\n") + 2
    while at < len(data):
        line = data.index(b"\r\n", at)
        size = int(data[at + 1 : line])
        found.append(data[line + 2 : line + 2 + size])
        at = line + 4 + size
    return found


class _Proxying:
    def __init__(self, port: int, seed: int) -> None:
        self.port = port
        self.dice = random.Random(seed)
        self.rules: list[_Rule] = []
        self.done: Counter[str] = Counter()
        self.guests: set[_Guest] = set()
        self.scripts: dict[str, str] = json.loads(sys.stdin.readline())

    async def run(self) -> None:
        server = await asyncio.start_server(self.guest, "127.0.0.1", 0)
        self.say(server.sockets[0].getsockname()[1])
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            self.say(self.follow(json.loads(line)))
        os._exit(0)  # connections that are open end with the process

    def say(self, answer: Any) -> None:
        print(json.dumps(answer), flush=True)

    def follow(self, order: dict[str, Any]) -> Any:
        if order["do"] == "tell":
            return self.done
        if order["do"] in ("mend", "forget"):
            self.rules.clear()
            if order["do"] == "forget":
                self.done.clear()
        elif order["do"] == "point":
            self.port = order["port"]
            for guest in () if order["keep_open"] else tuple(self.guests):
                guest.abort()
        else:
            self.rules.append(_Rule(order))
        return None

    async def guest(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        try:
            far, out = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            back.close()
            return
        guest = _Guest(self, back, out)
        self.guests.add(guest)
        pumps = [asyncio.ensure_future(guest.commands(near)), asyncio.ensure_future(guest.replies(far))]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            if not pump.cancel():
                pump.result()  # a mistake of ours is not to be taken for trouble
        self.guests.discard(guest)
        for writer in (out, back):
            writer.close()

    def struck(self, command: list[bytes]) -> _Rule | None:
        names = {part.decode(errors="replace").upper() for part in (command[0], b" ".join(command[:2]))}
        if command[0].upper() == b"EVALSHA":
            names.add(self.scripts.get(command[1].decode(), ""))
        elif command[0].upper() == b"EVAL":
            names.add(self.scripts.get(sha1(command[1]).hexdigest(), ""))
        return next((rule for rule in self.rules if rule.strikes(names, command, self.dice)), None)


class _Guest:
    """One connection: what is owed to it, in order. None: the server's reply; bytes: ours; "cut": none, ever."""

    def __init__(self, proxying: _Proxying, back: asyncio.StreamWriter, out: asyncio.StreamWriter) -> None:
        self.proxying = proxying
        self.back = back
        self.out = out
        self.owed: deque[bytes | Literal["cut"] | None] = deque()

    async def commands(self, near: asyncio.StreamReader) -> None:
        data = bytearray()
        try:
            while more := await near.read(262_144):
                data += more
                while data and (end := value_end(data, 0)) is not None:
                    if (
                        self.out.transport.is_closing()
                        or self.back.transport.is_closing()
                        or not self.command(bytes(data[:end]))
                    ):
                        return
                    del data[:end]
                self.answer()
                await self.out.drain()
        except OSError:
            return

    def command(self, data: bytes) -> bool:
        """Pass a command on, or not; return whether the connection goes on."""
        done = self.proxying.done
        rule = self.proxying.struck(parts(data))
        if rule is None or rule.do == "cut at reply":
            self.owed.append(None if rule is None else "cut")
            self.out.write(data)
            return True
        if rule.do == "cut at request":
            done["cut"] += 1
            self.abort()
            return False
        word = self.proxying.dice.choice(rule.words)
        done[word] += 1
        self.owed.append(f"-{word}\r\n".encode())
        return True

    def answer(self) -> None:
        """Send our own answers whose turn it is."""
        while not self.back.transport.is_closing() and self.owed and isinstance(self.owed[0], bytes):
            self.back.write(self.owed.popleft())

    async def replies(self, far: asyncio.StreamReader) -> None:
        data = bytearray()
        try:
            while more := await far.read(262_144):
                data += more
                while data and (end := value_end(data, 0)) is not None:
                    if self.back.transport.is_closing():
                        return
                    if self.owed.popleft() == "cut":
                        self.proxying.done["cut"] += 1
                        self.abort()
                        return
                    self.back.write(data[:end])
                    del data[:end]
                    self.answer()
                await self.back.drain()
        except OSError:
            return

    def abort(self) -> None:
        linger = struct.pack("ii", 1, 0)
        if not self.back.transport.is_closing():
            self.back.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.back.transport.abort()
        self.out.transport.abort()


if __name__ == "__main__":
    asyncio.run(_Proxying(int(sys.argv[1]), int(sys.argv[2])).run())
