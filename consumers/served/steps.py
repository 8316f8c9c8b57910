"""ServedStep: the Step of a handler that is called over HTTP. What has ended comes from the call; the rest is found."""

import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, cast

from msgspec import Raw

from stepstream.bus.errors import ConfigError, EventInvalid, NonRetriable, RetryAfter, StepFailed
from stepstream.bus.event import RawEvent, Sendable, event_name_of
from stepstream.bus.function import Function
from stepstream.bus.retry import Retry, asked_delay_ms, of
from stepstream.bus.step import Callee, Fetched, ProcessResult
from stepstream.bus.values import codec
from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.dialect import of_own
from stepstream.bus.wire.publishing import Publisher
from stepstream.checkpoint.run.memo import Failure, Memo, of_redis, step_failed
from stepstream.consumers.remote.protocol import AFTER_HEADER, NEXT, NO_RETRY_HEADER
from stepstream.consumers.served import reply
from stepstream.consumers.served.call import ServedCall
from stepstream.consumers.turn.steps.fetch import Fetcher
from stepstream.consumers.turn.steps.invoke import invoked, payload_of
from stepstream.consumers.turn.steps.numbered import Body, NumberedStep
from stepstream.consumers.turn.steps.process import Command, run_command
from stepstream.consumers.turn.steps.run import refuse_what_cannot_be_kept, run_body, through_json
from stepstream.consumers.turn.steps.send import published, signalled
from stepstream.consumers.turn.steps.wait import DoesNotFit, signalled_as, taken, wanted


class ServedStep(NumberedStep):
    """Answers from what a call brings, and finds what has not ended."""

    __slots__ = ("_call", "_fetcher", "_publisher", "_retry")

    def __init__(self, call: ServedCall, retry: Retry, publisher: Publisher, fetcher: Fetcher) -> None:
        super().__init__(call.state, call.tasks)
        self._call = call
        self._retry = retry
        self._publisher = publisher
        self._fetcher = fetcher

    # -- what runs in this process ---------------------------------------------------------------------------------

    def _run(
        self, step: str, target: Body, args: tuple[Any, ...], limit: float | None, retries: int | Retry | None
    ) -> Coroutine[Any, Any, Any]:
        return self._ran(step, target, args, limit, retries)

    async def _ran(
        self, step: str, target: Body, args: tuple[Any, ...], limit: float | None, retries: int | Retry | None
    ) -> Any:
        call, kind = self._call, codec.return_type(target)
        memo = await call.replayed(step, "run")
        if memo is None:
            memo = await call.finding.until(step, reply.op("StepPlanned", step), runs=True)
        if memo is not None:
            return memo.value(step, kind)
        began = time.monotonic()
        with call.activity:
            call.state.leave_replay()
            try:
                refuse_what_cannot_be_kept(step, kind)
                result = await run_body(call.bodies, step, target, args, limit)
                data, value = through_json(step, result, kind)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the author's code raises is an attempt
                of_store = of_redis(error)
                if of_store is not None:
                    raise of_store from None
                memo = await self._failed(step, error, retries, _ms_since(began))
            else:
                memo = await call.recorded(step, "run", data=data, took_ms=_ms_since(began))
                if memo.n == 0:
                    return value
        return memo.value(step, kind)

    async def _failed(self, step: str, error: BaseException, retries: int | Retry | None, took_ms: int) -> Memo:
        """Tell the bus of an attempt that failed: whether and when it is to try again. Return one that was the last.

        Only when the call was for the step: else the bus, who counts attempts, records that.
        """
        call, own = self._call, of(retries, self._retry)
        now, attempt = now_ms(), call.attempt_of(step)
        failure = Failure.of(error)
        headers = {NO_RETRY_HEADER: "false"}
        is_last = isinstance(error, NonRetriable | StepFailed) or attempt >= own.retries
        if not is_last and isinstance(error, RetryAfter):
            try:
                headers[AFTER_HEADER] = str(asked_delay_ms(error, now))
            except ConfigError as wrong:  # the wait it asks for makes no sense, and will not at the next attempt
                failure, is_last = Failure.of(wrong), True
        elif not is_last and own.backoff != self._retry.backoff:
            headers[AFTER_HEADER] = str(own.delay_ms(attempt))
        if not is_last:
            return await call.ends(reply.found([reply.op("StepError", step, error=reply.shown(failure))], headers))
        if call.asked.step != NEXT:
            return await call.recorded(step, "run", error=failure, took_ms=took_ms)
        last = Memo(0, "run", ended=now, error=failure)
        return await call.ends(reply.found([reply.done(step, last, took_ms)], {NO_RETRY_HEADER: "true"}))

    def _send_signal(self, step: str, signal: str, data: Any) -> Coroutine[Any, Any, bool]:
        async def sent() -> bool:
            return await signalled(self._call.wire, self._call.owned, step, signal, data)

        return self._ran(step, sent, (), None, None)

    def _send_event(self, step: str, events: Sequence[Sendable]) -> Coroutine[Any, Any, list[str]]:
        async def sent() -> list[str]:
            return await published(self._publisher, self._call.owned, step, events)

        return self._ran(step, sent, (), None, None)

    def _fetch(self, step: str, request: tuple[Any, ...], retries: int | Retry | None) -> Coroutine[Any, Any, Fetched]:
        return self._ran(step, self._fetcher.fetch, request, None, retries)

    def _command(self, step: str, command: Command, retries: int | Retry | None) -> Coroutine[Any, Any, ProcessResult]:
        async def ran() -> ProcessResult:
            return await run_command(self._call, step, command)

        return self._ran(step, ran, (), None, retries)

    # -- what the bus does -------------------------------------------------------------------------------------------

    async def _sleep(self, step: str, due: str) -> None:
        text = f"{due[1:]}ms" if due[:1] == "+" else reply.moment(int(due))
        if await self._call.replayed(step, "sleep") is None:
            op = {**reply.op("Sleep", step, opts={"duration": text}), "name": text}
            await self._call.finding.until(step, op)

    async def _wait_for_event(
        self, step: str, event: str | type[Any], match: str | None, if_: str | None, within: int
    ) -> Any:
        name, kind = (event, None) if isinstance(event, str) else (event_name_of(event), event)
        asks = f"event.{match} == async.{match}" if match else of_own(if_) if if_ else None

        def told(step: str, due: str) -> dict[str, Any]:
            wanted(self._call.event, step, name, match, if_)
            opts = {"event": name, "timeout": due, "looksBack": True, **({"if": asks} if asks else {})}
            return {**reply.op("WaitForEvent", step, opts=opts), "name": name}

        def read(step: str, data: Raw) -> Any:
            found = codec.decode_as(data, RawEvent)
            try:
                return found.typed(kind)
            except EventInvalid as error:
                raise DoesNotFit(StepFailed(step, "event_invalid", str(error)), f"{name} {found.id}", error) from None

        return await self._until_it_fits(step, "event", f"{within}ms", told, read)

    async def _wait_for_signal(self, step: str, signal: str, wanted: Any, within: int) -> Any:
        takes = Raw(taken(wanted))

        def told(step: str, due: str) -> dict[str, Any]:
            opts = {"signal": signal, "timeout": due, "takes": takes}
            return {**reply.op("WaitForSignal", step, opts=opts), "name": signal}

        def read(step: str, data: Raw) -> Any:
            return signalled_as(step, signal, data, wanted)

        return await self._until_it_fits(step, "signal", f"{within}ms", told, read)

    async def _until_it_fits(
        self,
        step: str,
        kind: str,
        due: str,
        told: Callable[[str, str], dict[str, Any]],
        read: Callable[[str, Raw], Any],
    ) -> Any:
        """Wait, and wait on as another step while what comes does not fit (consumers/turn/steps/wait.py)."""
        call, first, ignored = self._call, step, 0
        while True:
            memo = await call.replayed(step, kind)
            if memo is None:
                memo = await call.finding.until(step, told(step, due))
            data = _data(step, memo)
            if data is None:
                return None
            ignored += 1
            following = f"{first}~{ignored}"
            if following not in call.state.memos and following not in call.state.open:
                try:
                    return read(step, data)
                except DoesNotFit as error:
                    call.log.write("bus", error.told, step=first, level="warning")
            if memo is not None and memo.was is not None and memo.was.due is not None:
                due = reply.moment(memo.was.due)
            step = following
            call.state.uncalled.discard(step)

    async def _invoke(self, step: str, function: Callee[Any, Any] | str, data: Any, within: int) -> Any:
        call, slug = self._call, function if isinstance(function, str) else function.slug
        memo = await call.replayed(step, "invoke")
        if memo is None:
            payload = payload_of(step, data)
            wrong = _misfit(function, payload)
            if wrong is not None:
                with call.activity:
                    memo = await call.recorded(step, "invoke", error=Failure(wrong.code, str(wrong)))
            else:
                opts = {"function_id": slug, "payload": {"data": Raw(payload)}, "timeout": f"{within}ms"}
                memo = await call.finding.until(step, reply.op("InvokeFunction", step, opts=opts))
        assert memo is not None, "a step that the bus does never runs here"
        return invoked(step, function, memo)


def _misfit(function: object, payload: bytes) -> EventInvalid | None:
    """Return why a function that is declared here does not take what it is called with."""
    return cast("Function[Any, Any]", function).misfit(payload) if isinstance(function, Function) else None


def _ms_since(began: float) -> int:
    return round((time.monotonic() - began) * 1_000)


def _data(step: str, memo: Memo | None) -> Raw | None:
    """Return what a wait has brought; None when nothing has come, StepFailed when it cannot wait."""
    assert memo is not None, "a step that the bus does never runs here"
    if memo.error is not None:
        raise step_failed(step, memo.error)
    return None if bytes(memo.data) == b"null" else memo.data
