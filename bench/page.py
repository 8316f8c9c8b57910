"""What each page costs over a store of a million ended runs: `python -m bench.page [RUNS] [FUNCTIONS]`.

The site runs in this process, the store in a server of its own. A page is asked for as an open one asks again for its
main part. Told are the median time until the answer, what of it this process computed, how many commands it sent, how
many the server did for them (in scripts too), and what CPU that took the server. Commands are counted by the server
itself (MONITOR), so what else the machine does changes no count.
"""

import argparse
import asyncio
import contextlib
import re
import resource
import socket
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx2
from rich.console import Console
from rich.table import Table

from bench.store import FUNCTIONS, RUNS, client_of, keep_alive, make_store, slug
from stepstream import create_app
from stepstream.bus.settings import Settings
from stepstream.bus.values.ids import ulid_ms
from stepstream.bus.wire import keys
from stepstream.web.app import Site
from stepstream.web.dev.embedded import embedded
from stepstream.web.live import feed
from stepstream.web.live.feed import ALL, Watcher, feed_of

MOST_MS, MOST_COMMANDS = 100.0, 40
"""What a page may take, and may send."""
_TIMES, _ROUNDS = 9, 12
_BROWSERS = 100

PAGES = {
    "Overview": "/",
    "Runs": "/runs",
    "Events": "/events",
    "a name of events": "/event-names/bench/7",
    "Functions": "/functions",
    "a function": f"/functions/{slug(7)}",
    "Limits": "/limits",
    "Schedules": "/schedules",
    "Workers": "/workers",
    "Errors": "/errors",
    "Apps": "/apps",
    "System": "/system",
    "find": "/search?q=function-07",
    "find a key": "/search?q=customer-907",
}
"""Pages by what they are; one run is added, which is looked up."""

LIVE = ("Overview", "Events", "Functions", "a function", "Limits", "Schedules", "Workers", "Errors")
RUNS_LIVE = {"Runs": "/runs", "Runs: failed": "/runs?status=failed", "Runs: a key": "/runs?key=customer-7"}
"""Pages that people leave open."""

ASKED: dict[str, list[tuple[str, str]]] = {
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
"""The page of runs with filters. The indexed ones are bound as pages are; of the others a page looks at 10,000 runs."""


class Cost:
    """Asks the site for pages and tells what they cost."""

    def __init__(self, url: str, site: Site, http: httpx2.AsyncClient) -> None:
        self._client, self._site, self._http = client_of(url), site, http
        self._url = url

    def cpu(self) -> float:
        """Return the CPU that the server has taken so far, ms."""
        info: dict[str, Any] = self._client.info("cpu")
        return 1_000 * (info["used_cpu_user_main_thread"] + info["used_cpu_sys_main_thread"])

    @contextlib.contextmanager
    def counted(self) -> Generator[list[int]]:
        """Let the server tell of each command meanwhile: how many it was sent, and how many it has done in all."""
        where, counts = urlsplit(self._url), [0, 0]
        with socket.create_connection((where.hostname, where.port or 6379)) as link, link.makefile("rb") as lines:
            link.sendall(b"MONITOR\r\n")
            assert lines.readline() == b"+OK\r\n"
            yield counts
            self._client.echo("counted")
            for line in lines:
                if b'"ECHO" "counted"' in line:
                    break
                counts[0] += b" lua] " not in line
                counts[1] += 1

    async def ask(self, path: str) -> str:
        """Ask for a page as an open one does."""
        answer = await self._http.get(path, headers={"hx-request": "true"})
        assert answer.status_code in {200, 303}, f"{path}: {answer.status_code} {answer.text[:400]}"
        return answer.text

    async def row(self, name: str, path: str) -> tuple[tuple[str, ...], bool]:
        """Return a row of the table, and whether it is within what a page may cost."""
        keep_alive(self._url)
        for _ in range(2):  # the first loads scripts and reads what is kept
            await self.ask(path)
        with self.counted() as counts:
            await self.ask(path)
        took: list[float] = []
        cpu, here = self.cpu(), time.process_time()
        for _ in range(_TIMES):
            began = time.perf_counter()
            await self.ask(path)
            took.append(1_000 * (time.perf_counter() - began))
        here = 1_000 * (time.process_time() - here) / _TIMES
        cpu = (self.cpu() - cpu) / _TIMES
        median, (sent, done) = statistics.median(took), counts
        row = name, f"{median:.0f} ms", f"{max(took):.0f} ms", f"{here:.0f} ms", f"{sent}", f"{done:,}", f"{cpu:.1f} ms"
        return row, median <= MOST_MS and sent <= MOST_COMMANDS

    async def live(self, path: str, browsers: int) -> tuple[int, float]:
        """Return what a change costs while so many browsers show a page: commands, and this process's CPU, ms.

        Of a list each browser has another run as its first, as pages do that were opened one after the other.
        """
        wire, begun = self._site.state.store.wire, 0.0
        shown = re.findall(r'id="run-(\w+)"', await self.ask(path)) if path.partition("?")[0] == "/runs" else []
        paths = [f"{path}{'&' if '?' in path else '?'}top={ulid_ms(run)}-{run}" for run in shown[:browsers]] or [path]
        async with AsyncExitStack() as stack:
            watchers = [await stack.enter_async_context(feed_of(wire).watch(ALL)) for _ in range(browsers)]

            async def look(n: int, watcher: Watcher) -> None:
                nonlocal begun
                while not (await watcher.next()).changed:
                    pass
                begun = begun or time.process_time()
                await self.ask(paths[n % len(paths)])

            looking = [asyncio.create_task(look(*one)) for one in enumerate(watchers)]
            await asyncio.sleep(3 * feed.EVERY_S)  # the first look is over, and changes from now on are seen
            with self.counted() as counts:
                self._client.zadd(keys.runs(slug(1), "waiting"), {"x": 1})
                await asyncio.gather(*looking)
            self._client.zrem(keys.runs(slug(1), "waiting"), "x")
        return counts[0] - 1, 1_000 * (time.process_time() - begun)


@contextlib.asynccontextmanager
async def _site(url: str) -> AsyncGenerator[Cost]:
    site = create_app(configured=Settings(redis_url=url))
    transport = httpx2.ASGITransport(app=site)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as http:
        yield Cost(url, site, http)
    await site.close()


async def measure(url: str, console: Console) -> None:
    """Print what each page costs."""
    async with _site(url) as cost:
        head = ("median", "worst", "CPU here", "sent", "done", "CPU there")
        pages = Table("page", *head, title="a page that is open is taken again")
        run = client_of(url).zrevrange(keys.runs(slug(7), "failed"), 0, 0)[0].decode()
        over: list[str] = []
        for name, path in {**PAGES, "a run": f"/runs/{run}"}.items():
            row, fits = await cost.row(name, path)
            pages.add_row(*row)
            over += [] if fits else [name]
        console.print(pages)
        lists = Table("runs", *head, title="the page of runs, with filters")
        for name, pairs in ASKED.items():
            row, fits = await cost.row(name, f"/runs?{urlencode(pairs)}")
            lists.add_row(*row)
            over += [] if fits else [f"runs: {name}"]
        console.print(lists)
        console.print(f"over {MOST_MS:.0f} ms or {MOST_COMMANDS} commands: {', '.join(over) or 'none'}")
        sizes: list[float] = []
        for n in range(_ROUNDS):
            for path in PAGES.values():
                await cost.ask(path)
            if n in (_ROUNDS // 3, _ROUNDS - 1):
                sizes.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        console.print(f"memory of this process: {sizes[0]:.0f} MiB after {_ROUNDS // 3} rounds of all pages, "
                      f"{sizes[1]:.0f} MiB after {_ROUNDS}")  # fmt: skip
        several = ("commands, 1 open", f"{_BROWSERS} open", "CPU here, 1 open", f"{_BROWSERS} open")
        live = Table("page", *several, title="a change is seen by all that show a page")
        for name, path in {**{one: PAGES[one] for one in LIVE}, **RUNS_LIVE, "a run": f"/runs/{run}"}.items():
            found = [await cost.live(path, browsers) for browsers in (1, _BROWSERS)]
            live.add_row(name, *(f"{sent}" for sent, _ in found), *(f"{cpu:.0f} ms" for _, cpu in found))
        console.print(live)


def main() -> None:
    """Make the store and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=int, nargs="?", default=RUNS)
    parser.add_argument("functions", type=int, nargs="?", default=FUNCTIONS)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, embedded(Path(folder)) as server:
        client = client_of(server.url)
        client.config_set("appendonly", "no")
        began = time.perf_counter()
        make_store(server.url, asked.runs, asked.functions)
        memory, took = client.info("memory")["used_memory"] / 1e6, time.perf_counter() - began
        console = Console(width=140)
        console.print(
            f"{asked.runs:,} ended runs of {asked.functions} functions, {memory:,.0f} MB, made in {took:.0f} s"
        )
        asyncio.run(measure(server.url, console))


if __name__ == "__main__":
    main()
