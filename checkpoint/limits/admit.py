"""Admit: decide what becomes of events of a function with limits, and record each verdict under its run's id.

`later`: the run waits in a backlog; `merged`: the event joined a buffer, which becomes a run; `skipped`: no run;
`there`: decided before.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from stepstream.bus.function import Function
from stepstream.bus.process.failpoints import reached
from stepstream.bus.values.durations import milliseconds
from stepstream.bus.values.ids import FIRST
from stepstream.bus.wire import keys
from stepstream.bus.wire.scripts import script
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.end import CAUSES

VERDICT_KEPT_MS = 86_400_000


class Applicant(msgspec.Struct):
    """An event, with the keys and the rank that its function's limits give it.

    `holds` are the limit keys the run needs a place of, one per line. `rank` is its score in the backlog: queued ms,
    less 1000 for each second of priority. `rate`, `single` and `buffer` (`d:…` or `b:…`) are keys, empty where the rule
    does not apply.
    """

    run: str
    event: bytes
    source: str
    queued: int
    parent: str = ""
    cancels: str = ""
    not_before: int = 0
    holds: str = ""
    rank: int = 0
    rate: str = ""
    single: str = ""
    buffer: str = ""
    buffer_run: str = ""
    ts: int = 0
    rerun_of: str = ""


_ADMIT = script(__file__, "runs_admit", item=Applicant, texts=CAUSES)


class Verdict(msgspec.Struct):
    """`later`, `merged` (into run `by`), `skipped` (`why`), `there` or `error` (`why`)."""

    word: str
    why: str = ""


async def admit(
    wire: Wire, function: Function, subscribed: str, applicants: Sequence[Applicant], over: str = ""
) -> list[Verdict]:
    """Decide on events, together; waits until Redis answers. `over` is what overrides.py says."""
    flow = function.flow
    rate, debounce, batch = flow.rate_limit, flow.debounce, flow.batch
    flat: list[Any] = [
        function.code, VERDICT_KEPT_MS, wire.settings.keep_ms, subscribed,
        rate.gap_ms if rate else 0, rate.more if rate else 0,
        flow.singleton.mode if flow.singleton else "skip",
        milliseconds(debounce.period) if debounce else 0,
        milliseconds(debounce.timeout) if debounce and debounce.timeout is not None else 0,
        batch.size if batch else 0, milliseconds(batch.timeout) if batch else 0,
        over,
    ]  # fmt: skip
    for one in applicants:
        flat += msgspec.structs.astuple(one)
    replies = await wire.lasting_script(_ADMIT, [keys.function(function.slug, FIRST)], *flat)
    reached("admit.replied")
    return [Verdict(*(part.decode(errors="replace") for part in reply[:2])) for reply in replies]
