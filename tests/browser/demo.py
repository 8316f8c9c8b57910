"""The demo store: a server, a site and workers, with runs in every state, each of them made really.

Events are sent over HTTP, workers run them, one of them is killed, another dies of a run. Pages are looked at with it.
"""

import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import redis

from stepstream.bus.process.ports import free_port
from stepstream.bus.wire import keys
from tests.forks import Forked
from tests.patience import PATIENT_S
from tests.support import ValkeyProcess, WorkerProcess, until

LEASE_S = 2
_MINUTE_MS = 60_000
ORDERS = ("customs", "approval", "cooling-off", "insured", "slow")
"""Kinds of orders that do not end by themselves."""


class Demo:
    """A store and what works on it; `runs` has the run of each state by a word for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = ValkeyProcess(folder)
        self.server.start()
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self.environ = {
            "BUS_LEASE": str(LEASE_S),
            "BUS_DRAIN": "1",
            "BUS_ALERT_COMMAND": "true",
            "BUS_ALERT_EVERY": "2",
        }
        self._workers: list[WorkerProcess] = []
        self._is_closing = threading.Event()
        self._scanner = threading.Thread(target=self._scan)
        self._sites = [self._serve(port, self.server.url)]
        self.runs: dict[str, str] = {}
        """A run in each state, by a word for that."""
        self.events: dict[str, str] = {}
        self.operation = ""
        """One that has found nothing to cancel."""

    def serve_as(self, user: str, password: str) -> str:
        """Start another site, that shows itself to Redis as this user; return its URL when it answers."""
        url = f"http://127.0.0.1:{(port := free_port())}"
        self._sites.append(self._serve(port, self.server.url.replace("redis://", f"redis://{user}:{password}@")))
        until(lambda: _answers(f"{url}/health"), "the other site answers")
        return url

    def _serve(self, port: int, redis_url: str) -> Forked:
        environ = {**os.environ, **self.environ, "BUS_REDIS_URL": redis_url}
        return Forked("serve", "--port", str(port), env=environ, err=self.folder / "site.log")

    # -- asking it, and telling it --------------------------------------------------------------------------------------

    def get(self, path: str) -> Any:
        """Return the data of an answer of the API; None where there is none yet."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise AssertionError(f"{path}: {error.code} {error.read().decode()}") from None
            return None
        except OSError:
            return None

    def send(self, name: str, *several: dict[str, Any]) -> list[str]:
        """Publish events of a name; return their ids."""
        body = json.dumps([{"name": name, "data": data} for data in several]).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/e/x", body), timeout=10) as answer:
            return json.load(answer)["ids"]

    def send_later(self, name: str, data: dict[str, Any], delay: str) -> None:
        """Have an event published after a delay."""
        _post(f"{self.url}/e/x", [{"name": name, "data": data, "delay": delay}])

    def invoke(self, slug: str, data: dict[str, Any]) -> str:
        """Invoke a function; return its run."""
        return _post(f"{self.url}/invoke/{slug}", {"data": data})["data"]["id"]

    def wait_for(self, count: int = 1, **query: str) -> list[str]:
        """Wait until so many runs match; return their ids, the newest first."""
        asked = "&".join(f"{name}={value}" for name, value in query.items())

        def look() -> list[str] | None:
            found = [str(one["id"]) for one in self.get(f"/v1/runs?{asked}") or []]
            return found if len(found) >= count else None

        found = until(look, f"{count} runs match {asked}")
        assert found is not None
        return found

    def verdict(self, run: str) -> dict[str, Any]:
        """Return what there is to say of a run."""
        return (self.get(f"/v1/runs/{run}") or {}).get("verdict", {})

    def wait_for_verdict(self, run: str, kind: str) -> dict[str, Any]:
        """Wait until what there is to say of a run is of a kind."""
        until(lambda: self.verdict(run).get("kind") == kind, f"the verdict of {run} is {kind}")
        return self.verdict(run)

    # -- making it --------------------------------------------------------------------------------------------------------

    def work(self, app: str) -> WorkerProcess:
        """Start a worker of one of the applications of demo_apps.py."""
        log = self.folder / f"{app}-{len(self._workers)}.log"
        made = WorkerProcess(f"tests.browser.demo_apps:{app}", self.server.url, log=log, environ=self.environ)
        self._workers.append(made)
        return made

    def begin(self) -> None:
        """Start the site and the worker that stays, and wait until its functions are known."""
        shop = self.work("shop")
        shop.wait_ready()
        until(lambda: self.get("/v1/functions"), "the site answers")
        _post(f"{self.url}/v1/functions/shop-tidy-up/pause")
        until(lambda: b"paused: nothing more is read" in shop.log.read_bytes(), "the worker has heard of it")

    def fill(self) -> None:
        """Make runs in every state, side by side: what takes long is begun first."""
        self.poison()
        self.dead_worker()
        self.no_worker()
        self.limit_full()
        self.orders()
        self.others()
        self.settled()
        self.hour()
        until(lambda: self._fires("failures"), "an alert fires, and is sent")

    def _fires(self, rule: str) -> bool:
        told = self.get("/v1/alerts") or {"rules": []}
        return any(one["rule"] == rule and one["state"] == "firing" and one["sent"] for one in told["rules"])

    def no_worker(self) -> None:
        """The functions of `mail` are known, and nobody serves them."""
        gone = self.work("mail")
        gone.wait_ready()
        gone.signal(signal.SIGTERM)
        assert gone.process.wait(PATIENT_S) == 0
        self.send("invoice/due", *({"invoice": n} for n in range(3)))
        self.runs["no-worker"] = self.invoke("mail-send-invoice", {"invoice": 9})

    def dead_worker(self) -> None:
        """The only worker of `press` is killed while it prints."""
        self._printing = self.work("press")
        self._printing.wait_ready()
        self.send("catalogue/ready", {"catalogue": "spring"}, {"catalogue": "summer"})

    def limit_full(self) -> None:
        """Two runs hold the places of a customer, four wait for one."""
        self.send("charge/due", *({"customer": "customer-4", "n": n} for n in range(6)), {"customer": "ben<b>", "n": 0})

    def poison(self) -> None:
        """A run kills each worker that takes it up."""
        self._scanner.start()
        until(lambda: self.get("/v1/functions/scan-read-scan"), "the function of scan is registered")
        self.send("scan/uploaded", {"scan": "s-1042", "pages": 4_000})

    def orders(self) -> None:
        """Orders that complete, fail and wait."""
        kinds = ("plain", "lost", "jammed", "flaky", "late", *ORDERS)
        sent = self.send("order/paid", *({"order": f"o-{kind}", "how": kind, "cents": 995} for kind in kinds))
        self.events["paid"] = sent[0]
        self.send("order/paid", {"order": "o-1042", "cents": 1_250_00})

    def others(self) -> None:
        """Runs that are held back, dropped, paused; events that nobody hears."""
        self.send("day/ended", {"day": "2026-11-26"}, {"day": "2026-11-27"})
        self.runs["paused"] = self.invoke("shop-tidy-up", {"day": "2026-11-25"})
        self.send("news/written", *({"n": n} for n in range(4)))
        self.send("page/clicked", *({"page": "/sale"} for _ in range(7)))
        self.send("product/changed", *({"product": "p-7"} for _ in range(3)))
        self.send("visitor/came", *({"who": "ann"} for _ in range(3)))
        self.send("stock/changed", *({"warehouse": place} for place in ("Oslo", "Oslo", "Rome", "Lyon", "Oslo")))
        self.send("order/payed", {"order": "o-1043"})
        asked = {"kind": "cancel", "query": {"status": ["queued"], "function": "scan-read-scan"}}
        self.operation = _post(f"{self.url}/v1/operations", asked)["data"]["id"]
        self.send_later("order/paid", {"order": "o-9"}, "3h")

    def settled(self) -> None:
        """Wait until each state is reached, and keep its run."""
        self.wait_for(2, function="press-print-catalogue", status="running")
        until(lambda: self._held("press-print-catalogue") == 2, "its worker has told that it has both in hand")
        self._printing.kill()
        found = self.runs
        for kind in ORDERS:
            status = "running" if kind == "slow" else "waiting"
            found[kind] = self.order(kind, status)
        found["completed"], found["failed"] = self.order("plain", "completed"), self.order("lost", "failed")
        found["retrying"], found["flaky"] = self.order("jammed", "waiting"), self.order("flaky", "completed")
        found["timed-out"] = self.order("late", "completed")
        self.wait_for_verdict(found["no-worker"], "no_worker")
        found["limit"] = self.wait_for(4, function="shop-charge-customer", status="queued")[0]
        found["holder"] = self.wait_for(3, function="shop-charge-customer", status="running")[-1]
        found["throttled"] = self.wait_for(3, function="shop-send-newsletter", status="queued")[0]
        self.wait_for_verdict(found["paused"], "paused")
        merged = self.wait_for(7, function="shop-count-clicks", status="skipped")[0]
        found["batch"] = self.get(f"/v1/runs/{merged}")["by"]
        found["merged"] = merged
        found["rate-limited"] = self.wait_for(2, function="shop-greet-visitor", status="skipped")[0]
        self.wait_for(5, function="shop-sync-stock", status="failed")
        self.wait_for(1, function="shop-ask-the-insurer", status="waiting")
        found["child"] = self.wait_for(1, function="shop-ask-the-insurer")[0]
        found["dead"] = self.wait_for(2, function="press-print-catalogue", status="running")[0]
        self.wait_for_verdict(found["dead"], "worker_gone")

    def _held(self, slug: str) -> int:
        """Return how many runs of a function workers say they have in hand."""
        held = [one for worker in self.get("/v1/workers") or [] for one in worker["held"]]
        return sum(one["function"] == slug for one in held)

    def order(self, how: str, status: str) -> str:
        """Wait for the run of an order."""
        where = urllib.request.quote(f'event.data.order == "o-{how}"')
        return self.wait_for(1, function="shop-ship-order", status=status, where=where)[0]

    def _scan(self) -> None:
        """Start a worker of `scan` again whenever the run has killed it: a supervisor, in a thread of its own."""
        scanning = self.work("scan")
        while not self._is_closing.wait(0.05):
            if scanning.process.poll() is not None:
                scanning = self.work("scan")

    def given_up(self) -> str:
        """Wait until the run that kills its workers is given up."""
        return self.wait_for(1, function="scan-read-scan", status="failed")[0]

    def hour(self) -> None:
        """Write what was counted of the hour before: a store that is seconds old has none."""
        with redis.Redis.from_url(self.server.url) as store:
            now = int(time.time() * 1_000)
            for slug, pace, fails in (
                ("shop-ship-order", 40, 2),
                ("shop-sync-stock", 12, 5),
                ("mail-send-invoice", 9, 0),
            ):
                for back in range(2, 60):
                    at = now // _MINUTE_MS - back
                    count = round(pace * (1.3 + ((back * 7) % 13 - 6) / 10))
                    failed = fails if 8 < back < 15 else 0
                    _write_minute(store, slug, at, count, failed)

    def close(self) -> None:
        """End all of it."""
        self._is_closing.set()
        if self._scanner.is_alive():
            self._scanner.join()
        for one in self._workers:
            one.kill()
        for site in self._sites:
            site.kill()
            site.wait()
        self.server.kill()


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except OSError:
        return False
    return True


def _write_minute(store: Any, slug: str, minute: int, count: int, failed: int) -> None:
    name = keys.minute(slug, minute)
    store.hset(name, mapping={"started:5": count, "completed:8": count - failed, "failed:9": failed})
    store.expire(name, 90_000)


def _post(url: str, body: Any = None) -> Any:
    data = b"" if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)
