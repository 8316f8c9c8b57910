"""`bus audit`."""

from typing import Annotated

import typer

from stepstream.bus.process.terminal import say
from stepstream.bus.wire.once import once
from stepstream.checkpoint.audit_log import Act, acts
from stepstream.checkpoint.cli.printing import clock, print_json, print_none, print_table, words

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def audit(
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="How many.")] = 20,
    cursor: Annotated[str, typer.Option(help="Those before this one: the id of an act.")] = "",
    as_json: _Json = False,
) -> None:
    """List who has done what, to what, by what and from where, newest first: the last 10,000 acts.

    Acts of the page, of the API and of commands: bus audit --limit 50
    """
    found = once(lambda wire: acts(wire, limit=limit, cursor=cursor), shows=True)
    if as_json:
        print_json(found)
        return
    if not found.acts:
        print_none("nobody has done anything yet" if not cursor else "there is nothing older")
        return
    print_table(("when", "who", "what", words("on"), "by", "from", words("outcome")), map(_row, found.acts))
    if found.cursor:
        say(f"older ones: bus audit --limit {limit} --cursor {found.cursor}")


def _row(one: Act) -> tuple[str, ...]:
    return (clock(one.at), one.who or "anybody", one.what, one.on, one.way, one.source, one.outcome)
