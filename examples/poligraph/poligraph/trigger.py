"""`poligraph sync:press --limit=50`: starts a job from the command line.

A name is that of a group, of the daily round or of a script; `:` and `/` are alike.
"""

import asyncio
import re
import sys
from collections.abc import Mapping, Sequence

from poligraph.functions import app
from poligraph.scripts import SCRIPTS, Flag
from stepstream import BusError, NewEvent

_WHOLE = re.compile(r"-?\d+")
_DECIMAL = re.compile(r"-?\d*\.\d+|-?\d+\.")


class UnknownJob(ValueError):
    """There is no job of that name; the message has those there are."""


def jobs() -> dict[str, str]:
    """Return the event of each job by the names it may be called by."""
    found: dict[str, str] = {}
    for function in app.functions.values():
        for trigger in function.triggers:
            if not trigger.name.startswith("bus/"):
                found |= {function.id: trigger.name, trigger.name: trigger.name}
    return found


def requested(job: str, flags: Mapping[str, Flag], id: str = "") -> NewEvent:
    """Return the event that starts a job: of a script the flags are `flags`, of any other they are the data itself."""
    event = jobs().get(job.replace(":", "/"))
    if event is None:
        raise UnknownJob(f"there is no job {job!r}; there are {', '.join(sorted(set(jobs().values())))}")
    data: dict[str, object] = {"flags": dict(flags)} if event.removeprefix("sync/") in SCRIPTS else dict(flags)
    return NewEvent(event, {**data, "jobId": id} if id else data, id or None)


def flag(word: str) -> tuple[str, Flag]:
    """Return a flag as it is meant: `--limit=50` is a number, `--force` is true."""
    name, equals, value = word.removeprefix("--").partition("=")
    if not word.startswith("--") or not name:
        raise ValueError(f"{word!r} is no flag; write --name or --name=value")
    if not equals:
        return name, True
    if _WHOLE.fullmatch(value):
        return name, int(value)
    return name, float(value) if _DECIMAL.fullmatch(value) else value


async def start(words: Sequence[str]) -> str:
    """Publish what a command line asks for; return the id of the event."""
    job, *flags = words
    try:
        return await app.send(requested(job, dict(map(flag, flags))))
    finally:
        await app.close()


def main() -> int:
    """Start a job; the exit code is 2 for a command that makes no sense, 1 when it could not be published."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        print(f"{__doc__}\nJobs: {', '.join(sorted(set(jobs().values())))}")
        return 0
    try:
        print(f"{words[0]} is asked for, as event {asyncio.run(start(words))}")
    except (ValueError, BusError) as error:
        sys.stderr.write(f"poligraph: {error}\n")
        return 2 if isinstance(error, ValueError) or getattr(error, "status", 500) < 500 else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
