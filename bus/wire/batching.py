"""What is asked in one loop tick shares one call: Together, what runs ask of a script; Looks, what is read for people.

Every call brings its own arguments and gets its own answer, so one run, or function, whose keys Redis refuses does not
stop the others.
"""

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, cast

from stepstream.bus.errors import BusError, ScriptMissing
from stepstream.bus.values import codec
from stepstream.bus.wire.connection.pipeline import Argument, Reply
from stepstream.bus.wire.connection.refusals import translated
from stepstream.bus.wire.scripts import Script, script

MOST = 50
"""Items of one call: what is saved by sharing is saved by then, and the server is not held up longer than 2 ms."""
LOOKS_AT_ONCE = 100
"""Reads of one call."""
_READ = script(__file__, "read")

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


class _Look(NamedTuple):
    keys: Sequence[str]
    arguments: Sequence[Argument]
    future: asyncio.Future[Reply]


Send = Callable[[Script, Sequence[str], Sequence[Argument]], asyncio.Future[Reply]]


class Looks:
    """Collects the reads of a loop tick: those by one script, and plain ones, are one command (Script.shared).

    What is read of fifty functions, each by a call of its own, so costs a command and not fifty.
    """

    def __init__(self, send: Send, send_text: Send, call: Callable[..., asyncio.Future[Reply]]) -> None:
        self._send, self._send_text, self._call = send, send_text, call
        self._loop = asyncio.get_running_loop()
        self._gathered: dict[Script, list[_Look]] = {}
        self._context = contextvars.Context()

    def command(self, *command: Argument) -> asyncio.Future[Reply]:
        """Send a read of one key, whose reply is small."""
        before = 2 if command[0] == "XINFO" else 1
        return self.script(_READ, [str(command[before])], (before, *command[:before], *command[before + 1 :]))

    def script(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> asyncio.Future[Reply]:
        """Run a script that only reads."""
        if not self._gathered:
            self._loop.call_soon(self._flush, context=self._context)
        future: asyncio.Future[Reply] = self._loop.create_future()
        self._gathered.setdefault(script, []).append(_Look(keys, arguments, future))
        return future

    def _flush(self) -> None:
        gathered, self._gathered = self._gathered, {}
        for one, looks in gathered.items():
            for start in range(0, len(looks), LOOKS_AT_ONCE):
                self._ask(one, looks[start : start + LOOKS_AT_ONCE])

    def _ask(self, script: Script, looks: Sequence[_Look]) -> None:
        if len(looks) > 1:
            keys = [key for look in looks for key in look.keys]
            packed = [one for look in looks for one in (len(look.keys), len(look.arguments), *look.arguments)]
            self._run(script.shared, keys, packed, partial(_hand_out_looks, [look.future for look in looks]))
            return
        [(keys, arguments, future)] = looks
        if script is _READ:
            before = cast("int", arguments[0])
            sent = self._call(*arguments[1 : 1 + before], *keys, *arguments[1 + before :])
            sent.add_done_callback(partial(_pass_on, future), context=self._context)
        else:
            self._run(script, keys, arguments, partial(_pass_on, future))

    def _run(
        self,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[Argument],
        then: Callable[[asyncio.Future[Reply]], None],
    ) -> None:
        def answered(sent: asyncio.Future[Reply]) -> None:
            if not sent.cancelled() and isinstance(sent.exception(), ScriptMissing):
                self._send_text(script, keys, arguments).add_done_callback(then, context=self._context)
            else:
                then(sent)

        self._send(script, keys, arguments).add_done_callback(answered, context=self._context)


def _pass_on(future: asyncio.Future[Reply], sent: asyncio.Future[Reply]) -> None:
    if future.done():  # its caller was cancelled
        if not sent.cancelled():
            sent.exception()
    elif sent.cancelled():
        future.cancel()
    elif (error := sent.exception()) is not None:
        future.set_exception(error)
    else:
        future.set_result(sent.result())


def _hand_out_looks(futures: Sequence[asyncio.Future[Reply]], sent: asyncio.Future[Reply]) -> None:
    if sent.cancelled() or sent.exception() is not None:
        for future in futures:
            _pass_on(future, sent)
        return
    for future, reply in zip(futures, cast("list[Reply]", sent.result()), strict=True):
        if future.done():
            continue
        if len(reply) > 1:
            future.set_exception(translated(codec.text(reply[1])))
        else:
            future.set_result(reply[0] if reply else None)


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
