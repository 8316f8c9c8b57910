"""`bus schedules`: when each is due, what became of its last tick; run one now."""

from typing import Annotated

import typer

from stepstream.bus.errors import ConfigError
from stepstream.bus.process.terminal import say, say_json
from stepstream.bus.values import codec
from stepstream.bus.values.ids import ulid
from stepstream.bus.wire.once import once
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.audit_log import acted
from stepstream.checkpoint.cli.printing import Cell, ago, clock, print_none, print_table, words
from stepstream.checkpoint.registry import function_of, functions
from stepstream.producers.schedules import COUNTED_MISSED, Schedule, run_of_function, schedules

_USAGE = "write: bus schedules [SLUG], or bus schedules run SLUG [--schedule 'cron …']"


def list_schedules(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[SLUG] | run SLUG", help="The function: <bus id>-<function id>.")
    ] = None,
    schedule: Annotated[str, typer.Option(help="Which, where a function has several: as it is listed.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List schedules: their last tick, the next one, which were missed. Run one now: bus schedules run shop-report.

    It is off while its function is paused (bus pause SLUG): then ticks wait in line.
    """
    match words or []:
        case ["run", slug]:
            run = once(lambda wire: acted(wire, "run_schedule", slug, run_of_function(wire, slug, schedule, ulid())))
            if as_json:
                say_json(codec.encode({"function": slug, "id": run}))
            else:
                say(run)
        case [] | [_] as asked if asked != ["run"]:
            _list(asked, as_json=as_json)
        case _:
            raise ConfigError(_USAGE)


def _list(asked: list[str], *, as_json: bool) -> None:
    async def found(wire: Wire) -> list[Schedule]:
        known = [await function_of(wire, slug) for slug in asked]
        return await schedules(wire, known or await functions(wire))

    told = once(found, shows=True)
    if as_json:
        say_json(codec.encode(told))
    elif told:
        print_table(("function", "schedule", words("in words"), "last", "next", ""), map(_row, told))
    else:
        print_none("no function has a schedule; declare one: on=Cron('0 9 * * 1-5')")


def _row(one: Schedule) -> tuple[Cell, ...]:
    missed = f"{one.missed}{' or more' if one.missed >= COUNTED_MISSED else ''} missed" if one.missed else ""
    state = "paused" if one.paused is not None else "no worker" if not one.workers else ""
    told = ", ".join(word for word in (state, missed) if word)
    return one.function, one.text, one.words, ago(one.last) if one.last else "", clock(one.next[0]), told
