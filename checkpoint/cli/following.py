"""Following: a run is shown again whenever anything of it changes, until it has ended; its log goes on likewise.

Workers write nothing for those who look on, so nothing can be blocked upon: the run is asked for its pulse, one small
script, four times a second while it changes and once a second when it does not.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial

from rich.live import Live

from stepstream.bus.process.terminal import say
from stepstream.bus.wire.connection.retry import patiently
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.cli.printing import clock, print_json, terminal
from stepstream.checkpoint.cli.shown import line_of, show_lines, tree_of
from stepstream.checkpoint.facts.attempts import FailedAttempt, attempts_of
from stepstream.checkpoint.read.event.kept import of_run
from stepstream.checkpoint.read.lists.pulse import pulses_of_runs
from stepstream.checkpoint.read.run.find import get
from stepstream.checkpoint.read.run.log import log_of
from stepstream.checkpoint.read.run.steps import StepView, steps
from stepstream.checkpoint.read.run.verdict import Verdict, verdict
from stepstream.checkpoint.run.record import Run

_SOON_S, _SELDOM_S = 0.25, 1.0


async def changes(wire: Wire, run_id: str) -> AsyncIterator[Run]:
    """Yield a run as it is, and again at each change, the last time when it has ended; RunNotFound for none."""
    seen, pause = None, _SOON_S
    while True:
        found = await patiently(lambda: of_run(wire, run_id, get(wire, run_id)))
        look = partial(pulses_of_runs, wire, [(found.function, run_id)])
        [pulse] = await patiently(look)
        if (found.status, pulse) != seen:
            yield found
            pause = _SOON_S
        seen = (found.status, pulse)
        if found.has_ended:
            return
        while True:
            await asyncio.sleep(pause)
            pause = min(_SELDOM_S, pause * 1.5)
            [now] = await patiently(look)
            if now != pulse or found.status == "queued":  # what is queued may become part of another run
                break


async def follow_steps(wire: Wire, run_id: str, *, as_json: bool) -> Run:
    """Show a run's steps until it has ended, and return it: a tree at a terminal, in a pipe a line for each change."""
    if as_json or not sys.stdout.isatty():
        return await _told(wire, run_id, _as_json if as_json else _Lines())
    shown: list[tuple[Run, Verdict, list[StepView], list[FailedAttempt]]] = []
    with Live(
        get_renderable=lambda: tree_of(*shown[-1]) if shown else "", console=terminal(), refresh_per_second=2
    ) as live:
        async for found in changes(wire, run_id):
            about = (wire, found.function, run_id)
            shown[:] = [(found, await verdict(wire, found), await steps(*about), await attempts_of(*about))]
            live.refresh()
    return shown[-1][0]


async def _told(wire: Wire, run_id: str, tell: Callable[[Run, list[StepView]], None]) -> Run:
    last: Run | None = None
    async for found in changes(wire, run_id):
        tell(found, await steps(wire, found.function, run_id))
        sys.stdout.flush()
        last = found
    assert last is not None
    return last


def _as_json(found: Run, its_steps: list[StepView]) -> None:
    print_json({"run": found, "steps": its_steps})


class _Lines:
    """Tells a run's changes line by line: each state of the run, and of each of its steps, once."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str, int]] = set()

    def __call__(self, found: Run, its_steps: list[StepView]) -> None:
        """Print what has changed since the last call."""
        has_ended = found.has_ended
        if not has_ended:
            self._tell(
                ("", found.status, 0), found.started or found.queued, f"{found.id}  {found.function}  {found.status}"
            )
        for one in its_steps:
            self._tell((one.id, one.state, one.attempts), one.ended or one.started, line_of(one))
        if has_ended:
            error = f"  {found.error.name}: {found.error.message}" if found.error else ""
            at = found.ended or found.queued
            self._tell(("", found.status, 0), at, f"{found.id}  {found.function}  {found.status}{error}")

    def _tell(self, what: tuple[str, str, int], at: int, line: str) -> None:
        if what not in self._told:
            self._told.add(what)
            say(f"{clock(at)}  {line}")


async def follow_log(wire: Wire, run_id: str, *, as_json: bool) -> Run:
    """Print the lines of a run's log as they come, until it has ended, and return it."""
    printed, last = 0, None
    async for found in changes(wire, run_id):
        written = await log_of(wire, found.function, run_id)
        fresh = written.lines[max(0, printed - written.dropped) :]
        if printed < written.dropped and printed:
            say(f"… {written.dropped - printed:,} lines came too fast, and are kept no more")
        printed = written.dropped + len(written.lines)
        if as_json:
            for line in fresh:
                print_json(line)
        else:
            show_lines(fresh)
        sys.stdout.flush()
        last = found
    assert last is not None
    return last
