"""`bus cancel`, `bus rerun`, `bus invoke` and `bus signal`: what is done to runs, and to one."""

import contextlib
import sys
from typing import Annotated

import typer

from stepstream.bus import environment
from stepstream.bus.encryption.sealing import shown
from stepstream.bus.errors import BadRequest, NobodyWaits
from stepstream.bus.observe.tracing import begun_in
from stepstream.bus.process.terminal import plain, say
from stepstream.bus.values import codec
from stepstream.bus.values.arguments import HELP, data_of, sent_as_fits
from stepstream.bus.wire.once import once
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.cancel import cancel_now
from stepstream.checkpoint.actions.invoke import invoke as invoke_function
from stepstream.checkpoint.actions.rerun import rerun as rerun_run
from stepstream.checkpoint.audit_log import acted
from stepstream.checkpoint.cli.filters import Given, filtered
from stepstream.checkpoint.cli.many import Again, act
from stepstream.checkpoint.cli.printing import print_json
from stepstream.checkpoint.read.event.kept import of_run
from stepstream.checkpoint.read.run.bringing import run_brought
from stepstream.checkpoint.read.run.find import wait_for_end
from stepstream.checkpoint.run.record import Run
from stepstream.checkpoint.waits.signals import send_signal

_OneId = Annotated[str, typer.Argument(metavar="[ID]", help="The run's id: then it is that run, and no filter.")]
_Yes = Annotated[bool, typer.Option("--yes", help="Do it to all that match; else they are only counted.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@filtered
def cancel(run_id: _OneId = "", *, given: Given, yes: _Yes = False, as_json: _Json = False) -> None:
    """Cancel a run, or all that match: bus cancel ID, or bus cancel --status waiting --function shop-refund.

    One that waits or is queued ends at once; one that runs is ended by its worker within seconds. Those that match are
    counted, and cancelled with --yes; Ctrl-C aborts that. Exit code 1 when some were refused, or it was aborted.
    """
    if given or yes or not run_id:
        act("cancel", run_id, given, yes=yes, as_json=as_json)
        return
    word = once(
        lambda wire: acted(
            wire, "cancel", run_id, of_run(wire, run_id, cancel_now(wire, run_id, "cancelled with bus cancel"))
        )
    )
    if as_json:
        print_json({"id": run_id, "status": "cancelled" if word == "cancelled" else "cancelling"})
        return
    told = "cancelled" if word == "cancelled" else "it runs; its worker has been asked to end it"
    say(f"{run_id}  {told}")


@filtered
def rerun(
    run_id: _OneId = "",
    *,
    from_step: Annotated[str, typer.Option("--from", help="Keep the results of the steps before this one.")] = "",
    given: Given,
    yes: _Yes = False,
    again: Again = False,
    beside: Annotated[
        bool, typer.Option("--beside", help="Of one that has not ended: begin a second beside it.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Run again, for the same event: bus rerun 01K9… --from charge, or all that match: bus rerun --status failed.

    It is a new run, whose id is printed. Those that match are counted, and run again with --yes, but for those that
    have been run again already; Ctrl-C aborts that.
    Exit code 1 when some were refused, or it was aborted.
    """
    if given or yes or not run_id:
        if from_step:
            raise BadRequest(f"--from {from_step[:60]!r} is for one run: bus rerun ID --from STEP")
        act("rerun", run_id, given, yes=yes, as_json=as_json, again=again)
        return
    new = once(
        lambda wire: acted(
            wire, "rerun", run_id, of_run(wire, run_id, rerun_run(wire, run_id, from_step, beside=beside))
        )
    )
    if as_json:
        print_json({"id": new, "rerun_of": run_id})
    else:
        say(new)


def signal(
    name: Annotated[str, typer.Argument(help="The signal's name: what step.wait_for_signal waits for.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[JSON] [key=value …]", help=HELP)] = None,
    as_json: _Json = False,
) -> None:
    """Send a value to the run that waits for a signal, and print its id: bus signal approve/o1 by=ada.

    Without a value it is null. A signal that no run waits for is not kept: exit code 1.
    """

    async def sent(wire: Wire) -> str:
        run = await send_signal(wire, name, _value(words or []))
        if run is None:
            raise NobodyWaits(name)
        return run

    run = once(lambda wire: acted(wire, "signal", name, sent(wire)))
    if as_json:
        print_json({"run": run, "signal": name})
    else:
        say(run)


def _value(words: list[str]) -> object:
    """Return a signal's value: any JSON that is one word, or an object of key=value; null without words."""
    if len(words) == 1:
        with contextlib.suppress(ValueError):
            return codec.decode(words[0].encode())
    return data_of(words) if words else None


def invoke(
    slug: Annotated[str, typer.Argument(metavar="SLUG", help="The function: <bus id>-<function id>.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[JSON] [key=value …]", help=HELP)] = None,
    wait: Annotated[float, typer.Option(help="Wait this many seconds for its end, and print what it returns.")] = 0.0,
    as_json: _Json = False,
) -> None:
    """Run a function by its slug, without an event: bus invoke shop-refund orderId=o1 --wait 10.

    With --wait the exit code is 1 when the run has failed, and 2 when it has not ended in time.
    """
    data = data_of(words or [])
    begun_in(environment.traceparent())

    async def begun(wire: Wire) -> tuple[str, Run | None]:
        asked = sent_as_fits(words or [], data, lambda fitting: invoke_function(wire, slug, fitting))
        run = await acted(wire, "invoke", slug, asked)
        ended = await wait_for_end(wire, run, wait) if wait else None
        return run, None if ended is None else await run_brought(wire, ended)

    run, found = once(begun)
    if as_json:
        print_json({"id": run} if found is None else found)
    else:
        say(f"{run}{f'  {found.status}' if found else ''}")
    if not wait:
        return
    if found is None or not found.has_ended:
        raise typer.Exit(2)
    if found.error is not None and not as_json:
        sys.stderr.write(f"{plain(found.error.told())}\n")
    elif found.output is not None and not as_json:
        for line in codec.pretty(shown(bytes(found.output))).splitlines():
            say(line)
    raise typer.Exit(0 if found.status == "completed" else 1)
