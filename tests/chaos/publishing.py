"""Publishers in a storm: they repeat what is not answered, as an application does, and remember what was.

They send from this process (`app.send`, one event or several) and by HTTP to a `bus serve` that is killed now and then.
"""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Sequence

import httpx2

from stepstream.bus.bus import Bus, NewEvent
from stepstream.bus.errors import BusError
from stepstream.bus.settings import Settings
from stepstream.bus.wire.wire import Wire
from tests.chaos.storm import SEED, Storm
from tests.forks import Forked
from tests.support import free_port

MOST_IN_FLIGHT = 30


class Site:
    """A `bus serve` that is killed, and there again at the same port."""

    def __init__(self, storm: Storm) -> None:
        self._storm = storm
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process = self._started()

    def _started(self) -> Forked:
        log = self._storm.log.parent / "serve.log"
        return Forked("serve", "--port", str(self.port), env=self._storm.environ, err=log)

    def kill(self) -> None:
        """Kill it in the middle of whatever it does, and start another."""
        self.close()
        self._process = self._started()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class Publishing:
    """Publishes about `rate` events a second from a thread of its own until `stop`, which waits for the last answers."""

    def __init__(self, storm: Storm, rate: float, names: Sequence[str], site: Site | None = None) -> None:
        self._storm = storm
        self._rate = rate
        self._names = names
        self._random = random.Random(SEED + 1)
        self.site = site or Site(storm)
        self._stop = threading.Event()
        self.pauses = False
        """While it is set nothing more is published: the machine is slow."""
        self._n = 0
        self.answered: dict[tuple[str, str], str] = {}
        """(event name, id) → how: `send`, `list` or `http`."""
        self.unanswered: set[str] = set()
        """Names of events without an id of ours whose sending failed: each may have been stored."""
        self.done: Counter[str] = Counter()
        self.broken: list[str] = []
        """Errors that an application would not have expected."""
        self._thread = threading.Thread(target=lambda: asyncio.run(self._publish()))
        self._thread.start()

    def kill_site(self) -> None:
        self.site.kill()
        self.done["kill of bus serve"] += 1

    def stop(self) -> None:
        """Publish no more; wait until what was begun is answered."""
        self._stop.set()
        self._thread.join(120)
        assert not self._thread.is_alive(), "a publisher hangs"

    def close(self) -> None:
        """End the processes, whatever became of the test."""
        self._stop.set()
        self.site.close()
        self._thread.join(30)

    async def _publish(self) -> None:
        app = Bus("publisher")
        wire = Wire(Settings(redis_url=self._storm.url, timeout_ms=2_000), "publisher")
        app.connect(wire)
        flying: set[asyncio.Task[None]] = set()
        dice = self._random
        async with httpx2.AsyncClient(base_url=self.site.url, timeout=10) as client:
            while not self._stop.is_set():
                if self.pauses:
                    await asyncio.sleep(0.05)
                    continue
                if len(flying) >= MOST_IN_FLIGHT:
                    await asyncio.wait(flying, return_when=asyncio.FIRST_COMPLETED)
                how, count = dice.choice(("send", "list", "http")), 1
                if how != "send":
                    count = dice.randrange(1, 12)
                events = self._events(count, own=how != "send" or dice.random() < 0.7)
                flying.add(task := asyncio.create_task(self._deliver(app, client, how, events)))
                task.add_done_callback(flying.discard)
                task.add_done_callback(self._delivered)
                await asyncio.sleep(dice.expovariate(self._rate / count))
            if flying:
                await asyncio.wait(flying)
        await wire.close()

    def _events(self, count: int, *, own: bool) -> list[NewEvent]:
        made: list[NewEvent] = []
        while len(made) < count:
            self._n += 1
            name = self._random.choice(self._names)
            made.append(NewEvent(name, {"n": self._n, "k": self._n % 3}, f"own-{self._n}" if own else None))
            if name == "gale/stopped" and self._n % 2:
                made.append(NewEvent("gale/stop", {"n": self._n}, f"stop-{self._n}" if own else None))
        return made[:count] if own else made[:1]

    async def _deliver(self, app: Bus, client: httpx2.AsyncClient, how: str, events: list[NewEvent]) -> None:
        """Send until it is answered; what has no id of ours is sent once."""
        while True:
            try:
                ids = await (self._post(client, events) if how == "http" else app.send(events))
                break
            except (BusError, httpx2.HTTPError) as error:
                self.done[f"{how}: not answered"] += 1
                self.done[type(error).__name__] += 1
                if events[0].id is None:
                    self.unanswered.add(str(events[0].event))
                    return
            await asyncio.sleep(0.3)
        for event, id in zip(events, ids, strict=True):
            self.answered[str(event.event), id] = how

    def _delivered(self, task: "asyncio.Task[None]") -> None:
        if error := task.exception():
            self.broken.append(repr(error))

    async def _post(self, client: httpx2.AsyncClient, events: list[NewEvent]) -> list[str]:
        body = [{"name": str(event.event), "data": event.data, "id": event.id} for event in events]
        response = await client.post("/e/any", json=body)
        response.raise_for_status()
        return response.json()["ids"]
