"""Checkpointing: an app saves the steps that it has run while its call is still open, under the fence of that turn."""

from collections.abc import Sequence

import msgspec

from stepstream.bus.encryption.sealing import Reserved, refuse_mark
from stepstream.bus.errors import Conflict, EventInvalid
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.memo import MAX_RESULT_BYTES
from stepstream.checkpoint.run.save import FULL, save
from stepstream.consumers.remote.memos import owned_by
from stepstream.consumers.remote.protocol import RAN, Op, failure_of

_TOLD = frozenset({"StepPlanned"})
"""What only says that a step begins."""


class StaleCall(Conflict):
    """The call belongs to a turn that is over: its run has ended, was cancelled, or is another worker's."""

    code = "stale_call"

    def __init__(self, run: str) -> None:
        super().__init__(f"the call is not the one that run {run} is at: what it does is not recorded any more")


class Saved(msgspec.Struct):
    """What an app sends: the steps that it has run, and whose call they belong to (`qi_id`)."""

    qi_id: str = ""
    steps: Sequence[Op] = ()


async def save_steps(wire: Wire, run: str, saved: Saved) -> None:
    """Record steps of an open call, each once. EventInvalid for what cannot be saved so; StaleCall when it is too late.

    All are looked at before any is recorded. One that is there already stands, so a repeated request does no harm.
    """
    owned = owned_by(run, saved.qi_id)
    for position, op in enumerate(saved.steps):
        if op.op not in RAN | _TOLD:
            raise EventInvalid(f"{op.op} is not done while a call is open; answer with it", field=f"steps[{position}]")
        if len(bytes(op.data)) > MAX_RESULT_BYTES:
            told = f"step '{op.step}' returned {len(bytes(op.data))} bytes; at most {MAX_RESULT_BYTES} are kept"
            raise EventInvalid(told, field=f"steps[{position}]", status=413)
        try:
            refuse_mark(bytes(op.data))
        except Reserved as error:
            raise EventInvalid(str(error), field=f"steps[{position}].data") from None
    for op in saved.steps:
        if op.op in _TOLD:
            continue
        error = failure_of(bytes(op.error), f"step '{op.step}' failed") if op.op == "StepFailed" else None
        done = await save(
            wire, owned, op.step, "run", data=bytes(op.data), error=error, took_ms=op.took_ms, opened=True
        )
        if done.word == "full":
            raise EventInvalid(FULL[done.full], field="steps", status=413)
        if done.word not in {"mine", "there"} or done.cancel is not None:
            raise StaleCall(run)
