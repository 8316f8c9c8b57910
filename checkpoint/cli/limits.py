"""`bus limits`: who holds places and who waits; set a limit to another number until a time."""

from typing import Annotated

import typer

from stepstream.bus.errors import BadRequest, ConfigError
from stepstream.bus.process.terminal import say
from stepstream.bus.values.durations import milliseconds
from stepstream.bus.wire.once import once
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.audit_log import acted
from stepstream.checkpoint.cli.printing import Cell, ago, clock, print_json, print_none, print_table
from stepstream.checkpoint.cli.printing import words as wide
from stepstream.checkpoint.controls.ordered import Override
from stepstream.checkpoint.controls.overrides import override_limit, restore_limit, restoring
from stepstream.checkpoint.limits.flush import flush
from stepstream.checkpoint.limits.told import FunctionLimits, LimitLine, limits_of
from stepstream.checkpoint.registry import function_of, functions

_BY = "bus limits"
_USAGE = (
    "write: bus limits [SLUG], bus limits set SLUG concurrency 10 --for 2h [--key ada], or "
    "bus limits restore SLUG concurrency [--key ada], or bus limits flush SLUG [--key ada]"
)


def limits(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SLUG] | set SLUG LIMIT NUMBER | restore SLUG LIMIT | flush SLUG", help="What."),
    ] = None,
    during: Annotated[str, typer.Option("--for", help="Set it for so long: 30m, 2h, 1d.")] = "",
    key: Annotated[str | None, typer.Option(help="Only for this value of the limit's key.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show limits: who holds places, who waits. Set one to another number for a time, or let it be as declared.

    LIMIT is concurrency, concurrency2 (a function's second), throttle or rate_limit. What bus limits set shop-ship
    concurrency 10 --for 2h does is taken back by itself, or by: bus limits restore shop-ship concurrency. What a
    debounce or a batch holds back runs now with: bus limits flush shop-ship
    """
    match words or []:
        case ["set", slug, limit, number]:
            _set(slug, limit, number, during, key, as_json=as_json)
        case ["restore", slug, limit]:
            _restore(slug, limit, key, as_json=as_json)
        case ["flush", slug]:
            done = once(lambda wire: acted(wire, "flush_buffer", _on(slug, "", key), flush(wire, slug, key)))
            if as_json:
                print_json(done)
            for one in () if as_json else done:
                say(f"{one.run}  {one.kind}{f' for {one.key}' if one.key else ''}")
            if not done and not as_json:
                say(f"{slug} holds nothing back{'' if key is None else f' for {key}'}")
        case [] | [_] as asked if asked not in (["set"], ["restore"], ["flush"]):
            _list(asked, as_json=as_json)
        case _:
            raise ConfigError(_USAGE)


def _on(slug: str, limit: str, key: str | None) -> str:
    return " ".join(part for part in (slug, limit, key or "") if part)


def _set(slug: str, limit: str, number: str, during: str, key: str | None, *, as_json: bool) -> None:
    if not during:
        raise BadRequest("say for how long: --for 2h")
    if not (number.isascii() and number.isdecimal() and len(number) <= 9):
        raise BadRequest(f"{number[:40]!r} is no number; {_USAGE}")

    async def done(wire: Wire) -> Override:
        until = await wire.moment() + milliseconds(during, "--for")
        return await override_limit(wire, slug, limit, int(number), until, _BY, key=key)

    about = f"{_on(slug, limit, key)} to {number} for {during}"
    made = once(lambda wire: acted(wire, "set_limit", about, done(wire)))
    if as_json:
        print_json({"function": slug, "override": made})
    else:
        say(f"{slug} {limit}: {made.to} until {clock(made.until)}; before that with: {restoring(slug, made)}")


def _restore(slug: str, limit: str, key: str | None, *, as_json: bool) -> None:
    about = _on(slug, limit, key)
    done = once(lambda wire: acted(wire, "restore_limit", about, restore_limit(wire, slug, limit, key)))
    if as_json:
        print_json({"function": slug, "limit": limit, "was_set": done.was_set, "overrides": done.stand})
        return
    of = f"{slug} {limit}{'' if key is None else f' for {key}'}"
    whole = next((one for one in done.stand if one.key is None), None)
    if key is not None and whole is not None:  # there it is what is set for every value, which stands
        say(f"{of}: as for every value")
    else:
        say(f"{of}: {'as it declares' if done.was_set else 'was as it declares'}")
    for one in done.stand:
        whose = "every value" if one.key is None else one.key
        say(f"  still {one.to} for {whose}, until {clock(one.until)}; as it declares with: {restoring(slug, one)}")


def _list(asked: list[str], *, as_json: bool) -> None:
    async def found(wire: Wire) -> list[FunctionLimits]:
        known = [await function_of(wire, slug) for slug in asked]
        return await limits_of(wire, known or await functions(wire))

    told = once(found, shows=True)
    if as_json:
        print_json(told)
        return
    rows = [_row(one, line) for one in told for line in one.lines]
    if rows:
        heads = ("function", "limit", "key", "running", "of", "waiting", "first in line", "since", wide("held by"))
        print_table(heads, rows)
    for one in told:
        for other in one.overrides:
            value = "" if other.key is None else f" for {other.key}"
            say(
                f"{one.function}: {other.limit}{value} is set to {other.to} (declared: {one.settable[other.limit]}) by "
                f"{other.by}, until {clock(other.until)}"
            )
        for held in one.held:
            what = held.key or "every event"
            say(f"{one.function}: a {held.kind} of {held.events} for {what} runs {clock(held.due)}")
    if not told:
        print_none("no function has a limit; declare one: concurrency=2")
    elif not rows:
        print_none("no run holds a place, and none waits for one")


def _row(one: FunctionLimits, line: LimitLine) -> tuple[Cell, ...]:
    most = "" if line.most is None else line.most
    since = "" if line.oldest_since is None else ago(line.oldest_since)
    more = f" and {line.running - len(line.holders):,} more" if line.running > len(line.holders) > 0 else ""
    held_by = f"{' '.join(line.holders)}{more}"
    rule = line.rule or "declared no more"
    return one.function, rule, line.key, line.running, most, line.waiting, line.oldest, since, held_by
