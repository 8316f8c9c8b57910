"""TurnStep: the Step of a handler in this process. Each kind of step is done by its own file, as part of a turn."""

from collections.abc import Coroutine, Sequence
from typing import Any

from stepstream.bus.event import Sendable
from stepstream.bus.retry import Retry
from stepstream.bus.step import Callee, Fetched, ProcessResult
from stepstream.consumers.turn.steps.invoke import invoke
from stepstream.consumers.turn.steps.numbered import Body, NumberedStep
from stepstream.consumers.turn.steps.process import Command, run_command
from stepstream.consumers.turn.steps.run import run_step
from stepstream.consumers.turn.steps.send import send_event, signalled
from stepstream.consumers.turn.steps.sleep import sleep_step
from stepstream.consumers.turn.steps.wait import wait_for_event, wait_for_signal
from stepstream.consumers.turn.turn import Turn


class TurnStep(NumberedStep):
    """Answers from the memos of one turn, and does what has none."""

    __slots__ = ("_turn",)

    def __init__(self, turn: Turn) -> None:
        super().__init__(turn.state, turn.tasks)
        self._turn = turn

    def _run(
        self, step: str, target: Body, args: tuple[Any, ...], limit: float | None, retries: int | Retry | None
    ) -> Coroutine[Any, Any, Any]:
        return run_step(self._turn, step, target, args, limit, retries)

    def _sleep(self, step: str, due: str) -> Coroutine[Any, Any, None]:
        return sleep_step(self._turn, step, due)

    def _wait_for_event(
        self, step: str, event: str | type[Any], match: str | None, if_: str | None, within: int
    ) -> Coroutine[Any, Any, Any]:
        return wait_for_event(self._turn, step, event, match, if_, within)

    def _wait_for_signal(self, step: str, signal: str, wanted: Any, within: int) -> Coroutine[Any, Any, Any]:
        return wait_for_signal(self._turn, step, signal, wanted, within)

    def _send_signal(self, step: str, signal: str, data: Any) -> Coroutine[Any, Any, bool]:
        turn = self._turn

        async def sent() -> bool:
            return await signalled(turn.wire, turn.owned, step, signal, data)

        return run_step(turn, step, sent, (), None, None)

    def _invoke(self, step: str, function: Callee[Any, Any] | str, data: Any, within: int) -> Coroutine[Any, Any, Any]:
        return invoke(self._turn, step, function, data, within)

    def _send_event(self, step: str, events: Sequence[Sendable]) -> Coroutine[Any, Any, list[str]]:
        return send_event(self._turn, step, events)

    def _fetch(self, step: str, request: tuple[Any, ...], retries: int | Retry | None) -> Coroutine[Any, Any, Fetched]:
        return run_step(self._turn, step, self._turn.services.fetcher.fetch, request, None, retries)

    def _command(self, step: str, command: Command, retries: int | Retry | None) -> Coroutine[Any, Any, ProcessResult]:
        turn = self._turn

        async def ran() -> ProcessResult:
            return await run_command(turn, step, command)

        return run_step(turn, step, ran, (), None, retries)
