"""Replay: call a handler with what a recorded run has done, without a server, and say where it would go on.

The turn is the engine's own: its steps, the order of their results, how changed code is told. It differs in two things:
it records nothing, and a step that the run has not done waits, so that nothing new is done.
"""

import asyncio
import contextlib
import difflib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from stepstream.bus.bus import Bus
from stepstream.bus.encryption.sealing import opened, opened_raw
from stepstream.bus.errors import ConfigError
from stepstream.bus.event import RawEvent
from stepstream.bus.function import Function
from stepstream.bus.observe.signals import Signals
from stepstream.bus.settings import Settings, read
from stepstream.bus.values import codec
from stepstream.bus.wire.connection.pipeline import Argument, Reply
from stepstream.bus.wire.scripts import Script
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.read.run.recording import Recording, read_recording
from stepstream.checkpoint.run.memo import Failure, Memo
from stepstream.checkpoint.run.owned import Owned
from stepstream.checkpoint.run.save import Noted
from stepstream.checkpoint.run.start import StartReply
from stepstream.consumers.delivery.delivery import Delivery, Feed, StreamGroup
from stepstream.consumers.drivers.drive import drive
from stepstream.consumers.drivers.local import LocalDriver
from stepstream.consumers.turn import idle_detection
from stepstream.consumers.turn.activity import Activity
from stepstream.consumers.turn.exit import CodeChanged, Ended, Suspended, TryAgain, TurnExit
from stepstream.consumers.turn.recorder import Recorder
from stepstream.consumers.turn.services import Services
from stepstream.consumers.turn.turn import Turn

WITHIN_S = 10.0
"""How long a handler may take to come to rest."""
_FOR_EVER_MS = 366 * 86_400_000
_WAY_OUT = (
    "Keep each step that runs under way have done under its id, add new ones behind it, or deploy this when those runs "
    "have ended"
)
Verdict = Literal["completed", "differs", "waits", "goes on", "failed", "stranded"]


class Replayed(msgspec.Struct, frozen=True):
    """What the code as it is now makes of a recorded run.

    `completed` (with the recorded output, where there is one) or `differs` (with another); `waits` for what it waited
    for; `goes on` with steps it has not done (`next`); `failed`; or `stranded`: it would wait for another deploy.
    """

    run: str
    function: str
    verdict: Verdict
    told: str
    next: tuple[str, ...] = ()
    is_fit: bool = True
    """Whether the code may be deployed, for all that this run tells: it is not stranded, and fails only if it did."""

    def check(self) -> None:
        """Raise AssertionError, with what is wrong and the way out, unless the code is fit."""
        if not self.is_fit:
            raise AssertionError(f"run {self.run} of {self.function}: {self.told}")


def replay(app: Bus[Any] | Sequence[Bus[Any]], recording: str | Path | Recording, *, state: object = None) -> Replayed:
    """Replay a run that `bus run ID --export` has written, against the functions of an application.

    No body of a step runs, and nothing is asked of a server. `state` is the handlers' `ctx.state`. It may be called
    from async code too, whose loop waits meanwhile.
    """
    buses = [app] if isinstance(app, Bus) else list(app)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, replayed(buses, recording, state=state)).result()


def recordings(folder: str | Path) -> list[Path]:
    """Return the recordings in a folder, for one test each: `@pytest.mark.parametrize("run", recordings(…), ids=str)`.

    ConfigError when there is none: a test of nothing would pass.
    """
    found = sorted(Path(folder).glob("*.json"))
    if not found:
        raise ConfigError(
            f"there is no *.json in {Path(folder).absolute()}; export runs: bus run ID --export > ID.json"
        )
    return found


async def replayed(buses: Sequence[Bus[Any]], recording: str | Path | Recording, *, state: object = None) -> Replayed:
    """Do as `replay`, in the running loop."""
    recorded = recording if isinstance(recording, Recording) else read_recording(recording)
    functions = {function.slug: function for bus in buses for function in bus.functions.values()}
    function = functions.get(recorded.function)
    if function is None:
        near = difflib.get_close_matches(recorded.function, functions, 1)
        hint = f" (renamed to {near[0]}?)" if near else ""
        there = ", ".join(sorted(functions))
        return _stranded(
            recorded,
            f"there is no function '{recorded.function}' any more{hint}; there are {there}. Its runs wait until it is "
            "there again, or `bus functions forget` ends them",
        )
    return await _replayed(function, recorded, state)


async def _replayed(function: Function[Any, Any], recorded: Recording, state: object) -> Replayed:
    loop = asyncio.get_running_loop()
    factory = loop.get_task_factory()
    idle_detection.install(loop)
    own = read()[0]
    settings = Settings(redis_url="redis://127.0.0.1:1/0", prefix=own.prefix, codec=own.codec)
    services = Services(_Nowhere(settings, "replay"), Signals(), lambda _: None)
    with ThreadPoolExecutor(1) as threads:
        try:
            turn = _ReplayTurn(services, threads, function, recorded)
            driving = drive(turn, LocalDriver(state))
            done, _ = await asyncio.wait({driving}, timeout=WITHIN_S)
            if not done:
                turn.recorder.end(Suspended(0))
                await driving
                return _of(recorded, "failed", f"the handler did not come to rest within {WITHIN_S:g} s", is_fit=False)
            return _judged(turn, recorded, driving.result())
        finally:
            with contextlib.suppress(asyncio.CancelledError):
                await services.fetcher.close()
            loop.set_task_factory(factory)


class _Nowhere(Wire):
    """A way to no server: what is only told is dropped, and nothing may be asked."""

    def tell(self, *command: Argument) -> None:
        """Drop it."""

    def tell_script(self, script: Script, keys: Sequence[str], *arguments: Argument) -> None:
        """Drop it."""

    def call(self, *command: Argument) -> asyncio.Future[Reply]:
        """Refuse it: a replay has gone further than it may."""
        raise AssertionError(f"a replay asked the server: {command[:1]}")


class _ReplayRecorder(Recorder):
    """Records nothing, and ends the turn where the run would wait."""

    async def save(self, step: str, kind: str, **_: Any) -> None:
        """Let a sleep be over that was due when the run was recorded."""

    async def note(self, step: str, kind: str, **_: Any) -> Noted:  # noqa: ARG002
        """Let a wait that had been given up be noted again."""
        known = self._state.open[step]
        return Noted("mine", known.due or 0, self._state.server_now(), known.since)

    async def note_given_up(self, step: str, kind: str, what: bytes = b"") -> None:
        """The code has cancelled a step's task."""

    def tell_progress(self, progress: bytes) -> None:
        """Show nobody how far it is."""

    async def suspend(self, due_ms: int) -> bool:  # noqa: ARG002
        """End the turn."""
        self.end(Suspended(0))
        return True


class _ReplayTurn(Turn):
    """A turn of a recorded run."""

    __slots__ = ("asked", "given", "new", "recorded", "waits")

    def __init__(
        self, services: Services, threads: ThreadPoolExecutor, function: Function[Any, Any], recorded: Recording
    ) -> None:
        nobody: Any = None
        feed = Feed(StreamGroup.of_function("queue", function.slug), nobody, function, nobody)
        started = StartReply(
            "go",
            now=recorded.exported,
            attempt=recorded.attempt,
            memos=dict(recorded.steps),
            # Whoever brings what it waits for was told then, or will be.
            open={name: msgspec.structs.replace(one, armed=True) for name, one in recorded.open.items()},
            resumed=True,
        )
        owned = Owned(function.slug, recorded.run, 1, "")
        event = codec.decode_as(recorded.event, RawEvent)
        super().__init__(services, threads, Delivery(feed, "", {}, ""), owned, started, event)
        self.recorder = _ReplayRecorder(services, function, owned, self.state, self.tasks)
        self.activity = Activity(self.state, self.recorder.abandon)
        self.recorded = recorded
        self.asked: list[str] = []
        """The steps that the handler has asked for, in order."""
        self.given: list[str] = []
        """Those whose result it was given."""
        self.new: list[str] = []
        """Those that may begin, which the run has not done."""
        self.waits: list[str] = []
        """Those it waited in already."""

    async def publish(self, topic: str, data: bytes, channel: str) -> None:
        """Publish nothing."""

    def awaited(self, step: str) -> None:
        """Note that a step is asked for."""
        super().awaited(step)
        self.asked.append(step)

    async def replayed(self, step: str, kind: str) -> Memo | None:
        """Answer as the engine does; what is new, or was at work when the run was recorded, waits."""
        memo = await super().replayed(step, kind)
        if memo is not None:
            self.given.append(step)
            return memo
        known = self.state.open.get(step)
        if known is None or (known.kind == "run" and known.due is None):
            self.new.append(step)
            await self._for_ever(step)
        return None

    async def wait_until(self, step: str, due_ms: int, now_ms: int) -> Memo | None:  # noqa: ARG002
        """Wait, whenever it would be due."""
        self.waits.append(step)
        return await self._for_ever(step)

    async def _for_ever(self, step: str) -> Memo | None:
        now = self.state.server_now()
        return await super().wait_until(step, now + _FOR_EVER_MS, now)


# -- the verdict ----------------------------------------------------------------------------------------------------


def _of(recorded: Recording, verdict: Verdict, told: str, *, is_fit: bool = True, then: Sequence[str] = ()) -> Replayed:
    return Replayed(recorded.run, recorded.function, verdict, told, tuple(then), is_fit)


def _stranded(recorded: Recording, told: str) -> Replayed:
    return _of(recorded, "stranded", told, is_fit=False)


def _judged(turn: _ReplayTurn, recorded: Recording, turn_exit: TurnExit) -> Replayed:
    match turn_exit:
        case Ended(status="completed"):
            return _completed(recorded, turn_exit.output)
        case Ended():
            return _failed(turn, recorded, cast("Failure", turn_exit.error))
        case TryAgain():
            return _failed(turn, recorded, turn_exit.failure)
        case CodeChanged():
            return _stranded(recorded, _changed(turn, turn_exit.steps))
        case _ if turn.new:
            return _of(recorded, "goes on", f"it goes on with {_listed(turn.new)}{_moved(turn)}", then=turn.new)
        case _:
            return _of(recorded, "waits", f"it waits in {_listed(turn.waits)}, as it did{_moved(turn)}")


def _completed(recorded: Recording, output: bytes) -> Replayed:
    if not recorded.output:
        return _of(recorded, "completed", "it completes")
    now, then = codec.decode(opened(output)), codec.decode(opened_raw(recorded.output))
    if codec.canonical(now) == codec.canonical(then):
        return _of(recorded, "completed", "it completes with the output it had")
    return _of(recorded, "differs", f"it completes with another output: {_short(now)}; recorded was {_short(then)}")


def _failed(turn: _ReplayTurn, recorded: Recording, failure: Failure) -> Replayed:
    if recorded.error is not None and recorded.error.name == failure.name and recorded.status == "failed":
        return _of(recorded, "failed", f"it fails as it did: {failure.told()}")
    if failure.name in ("ValidationError", "DecodeError") and turn.given:
        step = turn.given[-1]
        told = (
            f"the recorded result of step '{step}' no longer fits the type the step returns now: {failure.message}. "
            "Let the type take what was stored (a field with a default, a union), or give the step a new id behind it"
        )
        return _of(recorded, "failed", told, is_fit=False)
    where = f" after step '{turn.given[-1]}'" if turn.given else ""
    return _of(recorded, "failed", f"it fails{where}: {failure.told()}", is_fit=False)


def _changed(turn: _ReplayTurn, missing: Sequence[str]) -> str:
    new = [step for step in turn.asked if step not in turn.recorded.steps and step not in turn.recorded.open]
    for step in missing:
        name, _, kind = step.rpartition(" as ")
        if step not in turn.recorded.steps and step not in turn.recorded.open:
            return (
                f"stranded: recorded step '{name}' was of kind '{kind}', and the code calls it as another. {_WAY_OUT}"
            )
    told = [f"the code does not ask for {_listed(missing)}, which the run has begun"]
    if new:
        near = [(step, difflib.get_close_matches(step, missing, 1)) for step in new]
        renamed = "".join(f" (is '{step}' the new name of '{found[0]}'?)" for step, found in near if found)
        told.append(f"but for {_listed(new)}, which it has not done{renamed}")
    return f"stranded: {', '.join(told)}. {_WAY_OUT}"


def _moved(turn: _ReplayTurn) -> str:
    """Return a hint of steps that are asked for in another order than they were done in, one after the other."""
    steps = turn.recorded.steps
    asked = [step for step in turn.asked if step in steps]
    for place, later in enumerate(asked):
        for earlier in asked[place + 1 :]:
            if steps[earlier].n < steps[later].n and steps[earlier].ended < steps[later].begun:
                return f" (step '{earlier}' is now called after '{later}'; each keeps its result)"
    return ""


def _listed(steps: Sequence[str]) -> str:
    return ", ".join(f"'{step}'" for step in steps)


def _short(value: object) -> str:
    text = codec.encode(value).decode()
    return text if len(text) <= 200 else f"{text[:200]} …"
