"""The local driver: call a Python handler in this process, with its context and steps."""

from stepstream.bus.context import Context
from stepstream.bus.encryption import sealing
from stepstream.bus.errors import EventInvalid
from stepstream.bus.values.codec import NotJson
from stepstream.checkpoint.run.memo import Failure
from stepstream.consumers.drivers.contract import Call, Outcome, Raised, Returned, Stopped
from stepstream.consumers.drivers.guard import guarded
from stepstream.consumers.turn.exit import CodeChanged
from stepstream.consumers.turn.steps.facade import TurnStep
from stepstream.consumers.turn.turn import Turn


class LocalDriver:
    """Calls handlers of one bus; `state` is what its lifespan has yielded, the handlers' `ctx.state`."""

    def __init__(self, state: object) -> None:
        self._state = state

    async def call(self, call: Call, turn: Turn) -> Outcome:
        """Call the handler once, in the current task, whatever it does; never raises."""
        return await guarded(turn, self._call(call, turn))

    async def close(self) -> None:
        """Nothing was opened."""

    async def _call(self, call: Call, turn: Turn) -> Outcome:
        event = call.event
        try:
            several = [call.function.typed(one) for one in event.several()]
        except EventInvalid as error:
            # Trying again cannot mend the event: no retry.
            return Raised(Failure("event_invalid", str(error)), is_final=True)
        context = Context(
            event=several[0],
            events=several,
            run_id=call.run,
            function=call.function.slug,
            attempt=call.attempt,
            state=self._state,
            behind=turn,
        )
        if call.open:
            await turn.save_due_sleeps()
        result = await call.function.handler(context, TurnStep(turn))
        if turn.over:  # it swallowed the interrupt: nothing it says counts
            return Stopped()
        if turn.state.uncalled:
            turn.recorder.end(CodeChanged(tuple(sorted(turn.state.uncalled))))
            return Stopped()
        try:
            output = sealing.result(result)
        except NotJson as error:
            return Raised(Failure("NonRetriable", f"the function's result is not JSON: {error}"), is_final=True)
        return Returned(output)
