"""`bus redis`: the lines of redis-cli that show what a page or a command shows."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer

from stepstream.bus.errors import ConfigError
from stepstream.bus.process.terminal import say
from stepstream.bus.wire.once import once
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.apps import apps
from stepstream.checkpoint.at_work import redis_cli
from stepstream.checkpoint.at_work.redis_cli import KeyLook
from stepstream.checkpoint.cli.printing import print_json
from stepstream.checkpoint.delayed import list_delayed
from stepstream.checkpoint.facts.workers import workers_told
from stepstream.checkpoint.limits.told import limits_of
from stepstream.checkpoint.read.event.kept import find_kept
from stepstream.checkpoint.read.lists.event_names import event_names
from stepstream.checkpoint.read.run.find import get
from stepstream.checkpoint.registry import function_of, functions

WHAT = (
    "overview", "runs", "run ID", "events", "event ID", "event-name NAME", "functions", "function SLUG", "limits",
    "schedules", "workers", "errors", "streams", "apps", "operations", "delayed", "audit",
)  # fmt: skip
_USAGE = f"write one of: {', '.join(f'bus redis {one}' for one in WHAT)}"


class Shown(msgspec.Struct, frozen=True):
    """A key, what it holds, and the line of redis-cli that shows it."""

    key: str
    what: str
    line: str


def redis(
    words: Annotated[list[str], typer.Argument(metavar="WHAT [ID|NAME]", help=f"{', '.join(WHAT)}.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the lines of redis-cli that show what a page or a command shows, raw: bus redis run RUN, bus redis limits.

    They go where BUS_REDIS_URL goes; a password is not in them: redis-cli asks for it, or takes it from REDISCLI_AUTH
    (then leave --askpass out). Of a list they are for its first rows. What each key is: docs, Every Redis key.
    """

    async def look(wire: Wire) -> list[Shown]:
        return [Shown(one.key, one.what, redis_cli.line(wire.where, one)) for one in await _looks(wire, words)]

    found = once(look)
    if as_json:
        print_json(found)
        return
    for one in found:
        say(f"# {one.what}")
        say(one.line)


async def _looks(wire: Wire, words: Sequence[str]) -> Sequence[KeyLook]:
    match words:
        case ["run", id]:
            return redis_cli.of_run((await get(wire, id)).function, id)
        case ["function", slug]:
            return redis_cli.of_function(slug, (await function_of(wire, slug)).events)
        case ["event-name", name]:
            return redis_cli.of_event_name(name)
        case ["event", id]:
            return redis_cli.of_event(await find_kept(wire, id))
        case [what]:
            return await _looks_of_list(wire, what)
        case _:
            raise ConfigError(_USAGE)


async def _looks_of_list(wire: Wire, what: str) -> Sequence[KeyLook]:
    known = await functions(wire)
    slugs = [one.slug for one in known]
    match what:
        case "overview":
            return redis_cli.of_overview(slugs)
        case "runs":
            return redis_cli.of_runs(slugs)
        case "functions":
            return redis_cli.of_functions(slugs)
        case "errors":
            return redis_cli.of_errors(slugs)
        case "limits":
            told = await limits_of(wire, known)
            return redis_cli.of_limits([(one.function, [line.stored for line in one.lines]) for one in told])
        case "schedules":
            return redis_cli.of_schedules([one.slug for one in known if any(on.startswith("cron ") for on in one.on)])
        case "events":
            return redis_cli.of_event_names([one.name for one in (await event_names(wire)).names])
        case "streams":
            return redis_cli.of_streams(slugs, [one.name for one in (await event_names(wire)).names])
        case "workers":
            return redis_cli.of_workers([one.name for one in await workers_told(wire)])
        case "apps":
            return redis_cli.of_apps([one.name for one in await apps(wire)])
        case "operations":
            return redis_cli.of_operations()
        case "delayed":
            return redis_cli.of_delayed([one.name for one in await list_delayed(wire)])
        case "audit":
            return redis_cli.of_audit()
        case _:
            raise ConfigError(_USAGE)
