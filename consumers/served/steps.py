"""ServedStep: the Step of a handler that is called over HTTP. What has ended comes from the call; the rest is found."""

import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from stepstream.bus.errors import ConfigError, EventInvalid, NonRetriable, RetryAfter, StepFailed
from stepstream.bus.event import RawEvent, Sendable, as_data, event_name_of, invalid
from stepstream.bus.function import Function
from stepstream.bus.retry import Retry, asked_delay_ms, of
from stepstream.bus.step import Callee, Fetched, ProcessResult
from stepstream.bus.values import codec
from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.dialect import of_own
from stepstream.bus.wire import keys
from stepstream.bus.wire.publishing import Publisher
from stepstream.checkpoint.run.memo import Failure, memo_of, of_redis
from stepstream.consumers.remote.protocol import NO_RETRY_HEADER
from stepstream.consumers.served import reply
from stepstream.consumers.served.asked import OF_THE_BUS
from stepstream.consumers.served.call import ServedCall
from stepstream.consumers.turn.steps.fetch import Fetcher
from stepstream.consumers.turn.steps.numbered import Body, NumberedStep
from stepstream.consumers.turn.steps.process import Command, run_command
from stepstream.consumers.turn.steps.run import refuse_what_cannot_be_kept, run_body, through_json
from stepstream.consumers.turn.steps.send import published, signalled
from stepstream.consumers.turn.steps.wait import wanted

_INVOKE_LATE = "InngestInvokeTimeoutError"


class _Error(msgspec.Struct):
    name: str = "Error"
    message: str = ""
    stack: str = ""


class _Ended(msgspec.Struct):
    """A step that has ended, on the wire: what it returned, or how it failed."""

    data: Raw = Raw(b"null")
    error: _Error | None = None


class _Signalled(msgspec.Struct):
    data: Raw = Raw(b"null")


class ServedStep(NumberedStep):
    """Answers from what a call brings, and finds what has not ended."""

    __slots__ = ("_call", "_fetcher", "_publisher", "_retry")

    def __init__(self, call: ServedCall, retry: Retry, publisher: Publisher, fetcher: Fetcher) -> None:
        super().__init__(call)
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
        memo = await call.ended(step)
        if memo is not None:
            return codec.decode_as(_value(step, memo), kind)
        await call.found(step, reply.op("StepPlanned", step), runs=True)
        began = time.monotonic()
        with call.working():
            try:
                refuse_what_cannot_be_kept(step, kind)
                result = await run_body(call.bodies, step, target, args, limit)
                data, value = through_json(step, result, kind)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the author's code raises is an attempt
                of_store = of_redis(error)
                if of_store is not None:
                    raise of_store from None
                return await call.ends(self._failed(step, error, retries))
            took_ms = round((time.monotonic() - began) * 1_000)
            stands = await call.recorded(step, data, took_ms)
        return value if stands is None else stands.value(step, kind)

    def _failed(self, step: str, error: BaseException, retries: int | Retry | None) -> reply.Reply:
        """Return what tells the bus of an attempt that failed: whether and when it is to try again."""
        own = of(retries, self._retry)
        now, attempt = now_ms(), self._call.attempt
        failure = reply.shown(Failure.of(error))
        if isinstance(error, NonRetriable | StepFailed) or attempt >= own.retries:
            return reply.found([reply.op("StepFailed", step, error=failure)], {NO_RETRY_HEADER: "true"})
        headers = {NO_RETRY_HEADER: "false"}
        if isinstance(error, RetryAfter):
            try:
                headers[reply.AFTER_HEADER] = reply.moment(now + asked_delay_ms(error, now))
            except ConfigError as wrong:  # the wait it asks for makes no sense, and will not at the next attempt
                return reply.found([reply.op("StepFailed", step, error=reply.shown(Failure.of(wrong)))])
        elif own.backoff != self._retry.backoff:
            headers[reply.AFTER_HEADER] = reply.moment(now + own.delay_ms(attempt))
        return reply.found([reply.op("StepError", step, error=failure)], headers)

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

    async def _awaited(
        self, step: str, op: Callable[[], dict[str, Any]] | Callable[[], Awaitable[dict[str, Any]]]
    ) -> Raw:
        """Return what has come of a step that the bus does, or let the bus know of it."""
        memo = await self._call.ended(step)
        if memo is None:
            made = op()
            await self._call.found(step, made if isinstance(made, dict) else await made)
            raise AssertionError("a step that the bus does never runs here")
        return memo

    async def _sleep(self, step: str, due: str) -> None:
        text = f"{due[1:]}ms" if due[:1] == "+" else reply.moment(int(due))
        await self._awaited(step, lambda: {**reply.op("Sleep", step, opts={"duration": text}), "name": text})

    async def _wait_for_event(
        self, step: str, event: str | type[Any], match: str | None, if_: str | None, within: int
    ) -> Any:
        name, kind = (event, None) if isinstance(event, str) else (event_name_of(event), event)
        first, ignored, due = step, 0, f"{within}ms"

        def waits() -> dict[str, Any]:
            wanted(self._call.event, step, name, match, if_)
            asks = f"event.{match} == async.{match}" if match else of_own(if_) if if_ else None
            opts = {"event": name, "timeout": due, "looksBack": True, **({"if": asks} if asks else {})}
            return {**reply.op("WaitForEvent", step, opts=opts), "name": name}

        while True:
            memo = await self._awaited(step, waits)
            if bytes(memo) == b"null":
                return None
            _raise_error(step, memo)
            found = codec.decode_as(memo, RawEvent)
            if found.name.startswith(OF_THE_BUS):
                found = codec.decode_as((await self._stored(step)).data, RawEvent)
            ignored += 1
            following = f"{first}~{ignored}"
            if not self._call.has(following):
                try:
                    return found.typed(kind)
                except EventInvalid as error:
                    self._call.log.write(
                        "bus", f"ignored {name} {found.id}, and waits on: {error}", step=first, level="warning"
                    )
                    was = (await self._stored(step)).was
                    if was is not None and was.due is not None:
                        due = reply.moment(was.due)
            step = following
            self._call.goes_on_as(step)

    async def _stored(self, step: str) -> Any:
        """Return a step that has ended as it is stored: with what the wire does not tell."""
        owned = self._call.owned
        with self._call.working():
            return memo_of(await self._call.wire.load("HGET", keys.steps(owned.slug, owned.run), step))

    async def _wait_for_signal(self, step: str, signal: str, wanted: Any, within: int) -> Any:
        opts = {"signal": signal, "timeout": f"{within}ms"}
        memo = await self._awaited(step, lambda: {**reply.op("WaitForSignal", step, opts=opts), "name": signal})
        if bytes(memo) == b"null":
            return None
        data = codec.decode_as(_value(step, memo), _Signalled).data
        if bytes(data) == b"null":
            return None
        try:
            return codec.decode_as(data, wanted)
        except msgspec.ValidationError as error:
            raise StepFailed(step, "signal_invalid", str(invalid(error, "data"))) from None

    async def _invoke(self, step: str, function: Callee[Any, Any] | str, data: Any, within: int) -> Any:
        async def calls() -> dict[str, Any]:
            slug = function if isinstance(function, str) else function.slug
            try:
                payload = as_data({} if data is None else data)
            except EventInvalid as error:
                raise NonRetriable(f"step '{step}': {error}") from None
            wrong = function.misfit(payload) if isinstance(function, Function) else None
            if wrong is not None:
                return reply.op("StepFailed", step, error=reply.shown(Failure(wrong.code, str(wrong))))
            opts = {"function_id": slug, "payload": {"data": Raw(payload)}, "timeout": f"{within}ms"}
            return reply.op("InvokeFunction", step, opts=opts)

        memo = await self._awaited(step, calls)
        kind: Any = Any if isinstance(function, str) else codec.return_type(function.handler)
        return codec.decode_as(_value(step, memo), kind)


def _value(step: str, memo: Raw) -> Raw:
    """Return what a step has returned; StepFailed when it failed."""
    ended = codec.decode_as(memo, _Ended)
    if ended.error is None:
        return ended.data
    _raise_error(step, memo)
    raise AssertionError("it has an error")


def _raise_error(step: str, memo: Raw) -> None:
    error = codec.decode_as(memo, _Ended).error
    if error is not None:
        name = "timeout" if error.name == _INVOKE_LATE else error.name
        raise StepFailed(step, name, error.message, error.stack)
