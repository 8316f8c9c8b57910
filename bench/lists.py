"""Lists over a store of a million ended runs: what each costs.

    python -m bench.lists [RUNS] [FUNCTIONS]

The store is made by raw pipelines: ended runs of many functions, with events of 260 B, in a server of its own. A cost
is the median of some askings: the time until the answer, what the client sent, and what the server did for it, its own
work in scripts counted too.
"""

import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from typing import Any, cast

import redis
from rich.console import Console
from rich.table import Table

from stepstream.bus.settings import Settings
from stepstream.bus.values import codec
from stepstream.bus.values.ids import run_id
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection.pipeline import Pipe
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.read.lists.search import query_of, search
from stepstream.web.dev.embedded import embedded

RUNS, FUNCTIONS = 1_000_000, 50
_STATUSES = ("completed",) * 17 + ("failed", "cancelled", "skipped")
_ERROR = '{"name":"PaymentDeclined","message":"card 4242 was declined","stack":"…"}'
_TIMES = 5
_AT_ONCE = 5_000


def _client(url: str) -> Any:
    """Return a client that is not of ours; untyped, as the library is."""
    return cast("Any", redis.Redis).from_url(url)


def slug(n: int) -> str:
    """Return the slug of a function of the store."""
    return f"bench-function-{n:02}"


def make_store(url: str, runs: int = RUNS, functions: int = FUNCTIONS) -> None:
    """Fill an empty server with ended runs, one a millisecond up to now, over functions with a trigger each."""
    client: Any = _client(url)
    for n in range(functions):
        declared = {"bus": "bench", "id": slug(n)[6:], "name": slug(n), "slug": slug(n), "on": [f"bench/{n}"],
                    "events": [f"bench/{n}"], "retries": 4, "code": "v1"}  # fmt: skip
        client.hset(keys.functions(), slug(n), codec.encode(declared))
    now = time.time_ns() // 1_000_000
    for start in range(0, runs, _AT_ONCE):
        pipeline = client.pipeline(transaction=False)
        for i in range(start, min(runs, start + _AT_ONCE)):
            _add(pipeline, slug(i * 7_919 % functions), i, now - runs + i, _STATUSES[i % len(_STATUSES)])
        pipeline.execute()


def _add(pipeline: Any, function: str, i: int, queued: int, status: str) -> None:
    run = run_id(function, "bench", str(i), queued)
    event = (
        f'{{"id":"{run}","name":"bench/{int(function[-2:])}","data":{{"n":{i},"text":"{"x" * 200}"}},"ts":{queued}}}'
    )
    fields = {"format": "3", "status": status, "source": "event", "event": event, "turn": "1", "queued": str(queued),
              "started": str(queued + 3), "ended": str(queued + 40), "code": "v1"}  # fmt: skip
    fields["holds"] = f"c0:customer-{i % 1_000}"
    fields |= {"output": "null"} if status == "completed" else {"error": _ERROR}
    pipeline.hset(keys.run(function, run), mapping=fields)
    pipeline.pexpire(keys.run(function, run), 7 * 86_400_000)
    pipeline.zadd(keys.runs(function, status, run), {run: queued})


ASKED: dict[str, list[tuple[str, str]]] = {
    "all runs": [],
    "status failed": [("status", "failed")],
    "status, two": [("status", "failed,cancelled")],
    "one function": [("function", slug(7))],
    "an event": [("event", "bench/7")],
    "the last 5 minutes": [("since", "5m")],
    "failed, from 10 to 5 min ago": [("status", "failed"), ("since", "10m"), ("until", "5m")],
    "a limit's key": [("key", "customer-7")],
    "an error": [("status", "failed"), ("error", "PaymentDeclined")],
    "an error that nobody had": [("error", "Nothing")],
    "a condition": [("where", "event.data.n % 100 == 7")],
    "a condition that is never true": [("where", "event.data.n < 0")],
}
"""What is asked for, each a page of fifty."""


async def costs(url: str) -> Table:
    """Return the table of what each list costs."""
    wire, client = Wire(Settings(redis_url=url), "bench"), _client(url)
    table = Table("asked for", "median", "worst", "sent", "done", "looked at", "count", title="a page of fifty runs")
    for name, pairs in ASKED.items():

        async def look(pairs: list[tuple[str, str]] = pairs) -> Any:
            return await search(wire, await query_of(wire, pairs))

        took, sent, done, found = await _cost(client, look)
        count = f"{'' if found.exact else '≥ '}{found.count:,}"
        table.add_row(name, f"{statistics.median(took):.1f} ms", f"{max(took):.1f} ms", f"{sent}", f"{done:,}",
                      f"{found.looked_at:,}", count)  # fmt: skip
    second = await search(wire, await query_of(wire, []))

    async def later() -> Any:
        return await search(wire, await query_of(wire, []), cursor=second.cursor)

    took, sent, done, found = await _cost(client, later)
    table.add_row("the second page", f"{statistics.median(took):.1f} ms", f"{max(took):.1f} ms", f"{sent}", f"{done:,}",
                  f"{found.looked_at:,}", f"{found.count:,}")  # fmt: skip
    await wire.close()
    return table


async def _cost(client: Any, look: Callable[[], Awaitable[Any]]) -> tuple[list[float], int, int, Any]:
    """Return the times of some askings, ms; and of one how many commands were sent, and done in all; its answer."""
    await look()  # loads the scripts
    before = client.info("stats")["total_commands_processed"]
    with _counted() as sent:
        found = await look()
    done = client.info("stats")["total_commands_processed"] - before - 1  # but for the INFO itself
    took: list[float] = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        await look()
        took.append(1_000 * (time.perf_counter() - began))
    return took, sent[0], done, found


@contextlib.contextmanager
def _counted() -> Generator[list[int]]:
    """Count what is sent on all connections meanwhile."""
    sent, call = [0], Pipe.call

    def counting(self: Pipe, *command: Any) -> Any:
        sent[0] += 1
        return call(self, *command)

    Pipe.call = counting  # type: ignore[method-assign]
    try:
        yield sent
    finally:
        Pipe.call = call  # type: ignore[method-assign]


def main() -> None:
    """Make the store and print the table."""
    given = [int(one) for one in sys.argv[1:3]]
    runs, functions = [*given, *(RUNS, FUNCTIONS)[len(given) :]]
    with tempfile.TemporaryDirectory() as folder, embedded(Path(folder)) as url:
        client: Any = _client(url)
        client.config_set("appendonly", "no")
        began = time.perf_counter()
        make_store(url, runs, functions)
        memory = client.info("memory")["used_memory"] / 1e6
        console = Console(width=140)
        took = f"{memory:,.0f} MB, made in {time.perf_counter() - began:.0f} s"
        console.print(f"{runs:,} ended runs of {functions} functions, {took}")
        console.print(asyncio.run(costs(url)))


if __name__ == "__main__":
    main()
