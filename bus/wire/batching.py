"""Together: what many runs ask of one script in one loop tick shares one call, and one transaction in Redis.

Every call brings its own arguments and gets its own answer (the script's fragment `each`), so one run whose keys Redis
refuses does not stop the others.
"""

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

from stepstream.bus.errors import BusError
from stepstream.bus.wire.connection.pipeline import Argument, Reply
from stepstream.bus.wire.connection.refusals import translated
from stepstream.bus.wire.scripts import Script

MOST = 50
"""Items of one call: what is saved by sharing is saved by then, and the server is not held up longer than 2 ms."""

Then = Callable[[Reply, BaseException | None], None]
Lasting = Callable[[Then, Script, Sequence[str], Sequence[Argument]], None]
_Target = tuple[Script, tuple[str], tuple[Argument, ...]]


class Together:
    """Collects the calls of a loop tick; `lasting` calls a script until the server has answered."""

    def __init__(self, lasting: Lasting) -> None:
        self._lasting = lasting
        self._loop = asyncio.get_running_loop()
        self._gathered: dict[_Target, tuple[list[Argument], list[asyncio.Future[Reply]]]] = {}
        # The engine's work, in no run's context: else what it starts would count as the run's (consumers/turn).
        self._context = contextvars.Context()

    def call(
        self, script: Script, key: tuple[str], common: tuple[Argument, ...], arguments: tuple[Argument, ...]
    ) -> asyncio.Future[Reply]:
        """Ask `script` with this tick's others of the same key and common arguments; waits until Redis answers."""
        if not self._gathered:
            self._loop.call_soon(self._flush, context=self._context)
        future: asyncio.Future[Reply] = self._loop.create_future()
        target = (script, key, common)
        gathered = self._gathered.get(target)
        if gathered is None:
            gathered = self._gathered[target] = (list(common), [])
        elif len(gathered[1]) >= MOST:
            self._tell(target, *gathered)
            gathered = self._gathered[target] = (list(common), [])
        gathered[0].extend(arguments)
        gathered[1].append(future)
        return future

    def _flush(self) -> None:
        gathered, self._gathered = self._gathered, {}
        for target, (arguments, futures) in gathered.items():
            self._tell(target, arguments, futures)

    def _tell(self, target: _Target, arguments: list[Argument], futures: list[asyncio.Future[Reply]]) -> None:
        self._lasting(partial(_hand_out, futures), target[0], target[1], arguments)


def _hand_out(futures: list[asyncio.Future[Reply]], replies: Reply, error: BaseException | None) -> None:
    if error is not None:
        replies = [error] * len(futures)
    for future, reply in zip(futures, replies, strict=True):
        failure = reply if isinstance(reply, BaseException) else _failure(reply)
        if future.done():  # its caller was cancelled
            continue
        if failure is None:
            future.set_result(reply)
        else:
            future.set_exception(failure)


def _failure(reply: Reply) -> BusError | None:
    """Return the error when the script failed at this item."""
    if type(reply) is list and reply and reply[0] == b"error":
        return translated(cast("bytes", reply[1]).decode(errors="replace"))
    return None
