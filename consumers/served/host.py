"""Host: what the calls of one application share in one event loop: its state, its threads, its ways out."""

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor

from stepstream.bus.bus import Bus
from stepstream.bus.context import Context
from stepstream.bus.encryption import sealing
from stepstream.bus.errors import EventInvalid, NonRetriable
from stepstream.bus.function import Function
from stepstream.bus.values.codec import NotJson
from stepstream.bus.wire.publishing import Publisher
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.memo import Failure
from stepstream.consumers.drivers.contract import Raised
from stepstream.consumers.remote.protocol import MAX_ANSWER_BYTES, hashed
from stepstream.consumers.served import reply
from stepstream.consumers.served.asked import read_call
from stepstream.consumers.served.call import ServedCall
from stepstream.consumers.served.reply import Reply
from stepstream.consumers.served.steps import ServedStep
from stepstream.consumers.turn import idle_detection
from stepstream.consumers.turn.steps.fetch import Fetcher

_THREADS = 100


class Host:
    """Answers calls. The bus's lifespan is entered with the first one."""

    def __init__(self, bus: Bus, wire: Wire, publisher: Publisher) -> None:
        idle_detection.install(asyncio.get_running_loop())
        self._bus = bus
        self._wire = wire
        self._publisher = publisher
        self._fetcher = Fetcher()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"bus-{bus.id}")
        self._stack = contextlib.AsyncExitStack()
        self._entering = asyncio.Lock()
        self._state: object = None
        self._has_state = bus.lifespan is None

    async def call(self, function: Function, step: str, body: bytes) -> Reply:
        """Call a function as a request's body asks, and return what is answered.

        Raises EventInvalid and StaleCall for what is not a call, or not one any more, and StoreUnavailable when Redis
        cannot be reached: the bus calls again.
        """
        asked = await read_call(self._wire, function.slug, step, body)
        there = next((one for one in asked.stands.memos.items() if hashed(one[0]) == asked.step), None)
        if there is not None:  # an earlier call has recorded it, whose answer was lost
            return reply.found([reply.racing(reply.done(*there))])
        state = await self._entered()
        call = ServedCall(self._wire, self._threads, asked)
        try:
            several = [function.typed(one) for one in asked.events]
        except EventInvalid as error:  # trying again cannot mend the event
            return reply.raised(Raised(Failure("event_invalid", str(error)), is_final=True))
        context = Context(
            event=several[0],
            events=several,
            run_id=call.run,
            function=function.slug,
            attempt=asked.stands.attempt,
            state=state,
            behind=call,
        )
        steps = ServedStep(call, function.retry, self._publisher, self._fetcher)

        async def handler() -> bytes:
            try:
                output = sealing.result(await function.handler(context, steps))
            except NotJson as error:
                raise NonRetriable(f"the function's result is not JSON: {error}") from None
            if len(output) > MAX_ANSWER_BYTES:
                told = (
                    f"the function's result is {len(output)} bytes; an answer over HTTP has at most {MAX_ANSWER_BYTES}"
                )
                raise NonRetriable(f"{told}: store it, return where")
            return output

        return await call.answered(handler)

    async def close(self) -> None:
        """Leave the lifespan, and close what was opened."""
        await self._stack.aclose()
        await self._fetcher.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _entered(self) -> object:
        if not self._has_state:
            async with self._entering:
                if not self._has_state and self._bus.lifespan is not None:
                    self._state = await self._stack.enter_async_context(self._bus.lifespan())
                    self._has_state = True
        return self._state
