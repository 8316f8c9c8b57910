"""`bus blobs`: what is in the store of large results, and what of it belongs to no run any more."""

from typing import Annotated

import typer

from stepstream.bus.errors import ConfigError
from stepstream.bus.process.terminal import say
from stepstream.bus.wire.once import once
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.audit_log import acted
from stepstream.checkpoint.blobs.left_over import BlobsTold, looked_through, store_of
from stepstream.checkpoint.cli.printing import print_json

_DELETE = "delete"


def blobs(
    action: Annotated[str | None, typer.Argument(metavar="[delete]", help="Delete those of no run.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="With delete: do it; without, it counts.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Count the large results in the store, and those that belong to no run any more.

    Redis forgets a run when its time is over (BUS_KEEP); its blobs stay until they are deleted, for example every
    night by: bus blobs delete --yes

    Only those that were written more than a day ago, and only in the store of this installation (BUS_PREFIX). Two
    installations of one prefix have stores of their own: this looks into one Redis.
    """
    if action not in (None, _DELETE):
        raise ConfigError(f"write: bus blobs, or bus blobs {_DELETE} --yes; got {action!r}")

    async def look(wire: Wire) -> BlobsTold:
        store = store_of(wire)
        if action and yes:
            return await acted(wire, "delete_blobs", store.shown, looked_through(wire, deletes=True))
        return await looked_through(wire)

    told = once(look)
    if as_json:
        print_json(told)
        return
    say(f"{told.store}: {told.blobs:,} blob(s), {told.bytes:,} bytes")
    of_none = f"{told.left_over:,} blob(s) of no run, {told.left_over_bytes:,} bytes"
    if told.deleted:
        say(f"deleted: {of_none}")
    elif told.left_over:
        say(f"{of_none}; delete them with: bus blobs {_DELETE} --yes")
    else:
        say("all of them belong to runs that are kept, or are younger than a day")
