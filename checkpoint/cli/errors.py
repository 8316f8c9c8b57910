"""`bus errors`: of what runs failed, in groups."""

from typing import Annotated, get_args

import typer

from stepstream.bus.errors import ConfigError, NotFound
from stepstream.bus.process.terminal import say
from stepstream.bus.values.durations import milliseconds
from stepstream.bus.wire.once import once
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.audit_log import acted
from stepstream.checkpoint.cli.filters import named
from stepstream.checkpoint.cli.many import Again, act
from stepstream.checkpoint.cli.printing import Cell, ago, clock, print_json, print_none, print_table, word, words
from stepstream.checkpoint.facts.errors import ErrorGroup, State, errors_of, set_error_state
from stepstream.checkpoint.registry import function_of, functions

_WORDS: dict[str, State] = {"resolve": "resolved", "mute": "muted", "reopen": "open"}
_USAGE = (
    "write: bus errors, bus errors resolve GROUP, bus errors mute GROUP --for 2h, bus errors reopen GROUP, or "
    "bus errors rerun GROUP --yes"
)
_SHOWN_MESSAGE = 80


def errors(
    action: Annotated[
        str | None, typer.Argument(metavar="[resolve|mute|reopen|rerun]", help="What becomes of one.")
    ] = None,
    group: Annotated[
        str | None, typer.Argument(metavar="[GROUP]", help="Which: the first column, or how it begins.")
    ] = None,
    function: Annotated[str, typer.Option(help="Only of this function (its slug).")] = "",
    state: Annotated[str, typer.Option(help="Only those that are open, resolved or muted; all: any.")] = "open",
    muted_for: Annotated[str, typer.Option("--for", help="Mute it for so long: 30m, 2h, 1d; else for good.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="How many.")] = 20,
    yes: Annotated[bool, typer.Option("--yes", help="With rerun: do it; without, it counts.")] = False,
    again: Again = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List of what runs failed, the newest first, in groups: one for each error and place in your code.

    A group that is resolved is open again when its error comes again: bus errors resolve 3f2a90c1b7de. All runs that
    failed of one are run again by: bus errors rerun 3f2a90c1b7de --yes
    """
    if action == "rerun" and group is not None:
        mark, _ = once(lambda wire: _known(wire, group, function))
        given = [*runs_of(mark), *([("function", function)] if function else [])]
        act("rerun", "", given, yes=yes, as_json=as_json, again=again)
        return
    if action is not None:
        if action not in _WORDS or group is None:
            raise ConfigError(_USAGE)
        mark, changed = once(
            lambda wire: acted(
                wire, "set_error_state", f"{group} {action}", _set(wire, group, function, _WORDS[action], muted_for)
            )
        )
        if as_json:
            print_json({"group": mark, "state": _WORDS[action], "functions": changed})
        else:
            say(f"{mark}  {_WORDS[action]}  ({', '.join(changed)})")
        return
    if state != "all" and state not in get_args(State):
        raise ConfigError(f"--state {state[:40]!r} is not known: use one of {', '.join(get_args(State))} and all")
    found = [one for one in once(lambda wire: _errors(wire, function), shows=True) if state in ("all", one.state)][
        :limit
    ]
    if as_json:
        print_json(found)
    elif found:
        heads = ("group", "function", "state", "count", "first", "last", words("error"), words("raised in"), "last run")
        print_table(heads, (_row(one) for one in found))
    else:
        all_of_them = "what ran: bus runs" if state == "all" else "all: bus errors --state all"
        print_none(f"no errors{'' if state == 'all' else f' that are {state}'}; {all_of_them}")


async def _errors(wire: Wire, function: str) -> list[ErrorGroup]:
    if function:
        await function_of(wire, function)
    return await errors_of(wire, [function] if function else [one.slug for one in await functions(wire)])


def runs_of(group: str) -> list[tuple[str, str]]:
    """Return the filters of the runs that failed of a group."""
    return [("status", "failed"), ("error", group)]


async def _known(wire: Wire, begins: str, function: str) -> tuple[str, list[str]]:
    """Return the group that begins so, and the functions in which there is one; NotFound when there is none."""
    found = await _errors(wire, function)
    group = named(begins, [one.fingerprint for one in found])
    if group is None:
        raise NotFound(f"no group {begins[:40]!r} of errors; bus errors --state all lists them")
    return group, [one.function for one in found if one.fingerprint == group]


async def _set(wire: Wire, begins: str, function: str, state: State, muted_for: str) -> tuple[str, list[str]]:
    """Change a group's state; return it, and the functions in which there is one."""
    until = await wire.moment() + milliseconds(muted_for, "--for") if muted_for else 0
    group, slugs = await _known(wire, begins, function)
    changed = [slug for slug in slugs if await set_error_state(wire, slug, group, state, until)]
    if not changed:
        raise NotFound(f"no group {group[:40]!r} of errors; bus errors --state all lists them")
    return group, changed


def _row(one: ErrorGroup) -> tuple[Cell, ...]:
    message = one.message.partition("\n")[0]
    told = f"{one.name}: {message[:_SHOWN_MESSAGE]}" if message else one.name
    return (
        one.fingerprint,
        one.function,
        word(one.state),
        one.count,
        clock(one.first),
        ago(one.last),
        told,
        one.frame,
        one.run,
    )
