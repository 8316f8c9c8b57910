"""Bringing: what a run begins with and what its steps returned, as its code sees it: from the store, and opened."""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Raw

from stepstream.bus.blobs.reference import BLOB_MARK
from stepstream.bus.encryption.sealing import CannotOpen, CannotSeal
from stepstream.bus.errors import BlobGone, StoreUnfit
from stepstream.bus.event import RawEvent
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.blobs.keeping import brought, brought_if_there
from stepstream.checkpoint.read.run.steps import StepView
from stepstream.checkpoint.run.memo import Memo
from stepstream.checkpoint.run.record import Run

NOT_HERE = (CannotOpen, CannotSeal, BlobGone, StoreUnfit)
"""Why a run cannot have what it needs, or keep what it made: no error of its code, which waits until that is mended."""


async def memos_brought(wire: Wire, memos: Mapping[str, Memo]) -> dict[str, Memo]:
    """Return memos with what their steps returned; one of NOT_HERE where that cannot be had."""
    found: dict[str, Memo] = {}
    for step, memo in memos.items():
        try:
            found[step] = (await memo_brought(wire, memo)).opened()
        except CannotOpen as error:
            raise CannotOpen(f"the result of step '{step}': {error}") from error
    return found


async def memo_brought(wire: Wire, memo: Memo) -> Memo:
    """Return a memo with what its step returned, still sealed; BlobGone, StoreUnfit."""
    data = await _raw(wire, memo.data)
    return memo if data is None or data is memo.data else msgspec.structs.replace(memo, data=data)


async def event_brought(wire: Wire, event: RawEvent) -> RawEvent:
    """Return an event, and those of its batch, with its data; one of NOT_HERE where that cannot be had.

    There are large results in the events that the ends of runs make.
    """
    if event.batch or BLOB_MARK in bytes(event.data):
        batch = event.batch and [await event_brought(wire, one) for one in event.batch]
        data = Raw(await brought(wire, bytes(event.data)))
        event = msgspec.structs.replace(event, data=data, batch=batch)
    return event.opened()


async def run_whole(wire: Wire, run: Run) -> Run:
    """Return a run with its large results, still sealed; BlobGone, StoreUnfit."""
    event, output = await _raw(wire, run.event), await _raw(wire, run.output)
    return msgspec.structs.replace(run, event=event, output=output)


async def steps_whole(wire: Wire, views: Sequence[StepView]) -> list[StepView]:
    """Return steps in the same way."""
    return [msgspec.structs.replace(one, data=await _raw(wire, one.data)) for one in views]


async def run_brought(wire: Wire, run: Run) -> Run:
    """Return a run as people are told of it: with its large results, unless the store does not have them."""
    event, output = await _raw_if_there(wire, run.event), await _raw_if_there(wire, run.output)
    return msgspec.structs.replace(run, event=event, output=output)


async def event_brought_if_there(wire: Wire, event: RawEvent) -> RawEvent:
    """Return an event in the same way; of a batch the first alone is told of."""
    data = await _raw_if_there(wire, event.data)
    return event if data is None or data is event.data else msgspec.structs.replace(event, data=data)


async def steps_brought(wire: Wire, views: Sequence[StepView]) -> list[StepView]:
    """Return steps in the same way."""
    return [msgspec.structs.replace(one, data=await _raw_if_there(wire, one.data)) for one in views]


async def _raw(wire: Wire, data: Raw | None) -> Raw | None:
    return data if data is None or BLOB_MARK not in bytes(data) else Raw(await brought(wire, bytes(data)))


async def _raw_if_there(wire: Wire, data: Raw | None) -> Raw | None:
    if data is None or BLOB_MARK not in bytes(data):
        return data
    return Raw(await brought_if_there(wire, bytes(data)))
