"""A storm over applications of the official SDKs: they and `bus serve` are killed like the workers and the server."""

import json
import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import httpx2

from stepstream.bus.values import codec
from stepstream.bus.wire import keys
from stepstream.checkpoint.apps import App
from stepstream.consumers.remote.functions import bus_of
from tests.chaos.publishing import Publishing, Site
from tests.chaos.storm import Storm
from tests.chaos.verdict import Verdict, Watch
from tests.patience import PATIENT_S
from tests.sdk.sdks import home
from tests.support import free_port

HERE = Path(__file__).parent
SDKS = {"js": "v4.24.0", "py": "py"}
"""The applications by their names, and whose SDK each uses."""
NAMES = tuple(f"remote/{one}" for one in ("three", "crossing", "limited", "failing"))
RIGHT_AFTER_MS = 3_000
FAULTS = {"kill": 30, "stop past the lease": 25, "kill of an application": 20, "kill of bus serve": 5}


class Application:
    """An application of an SDK, to be killed and started again, there or elsewhere."""

    def __init__(self, name: str, storm: Storm, site: Site) -> None:
        self.name = name
        self.port = free_port()
        self._folder = storm.log.parent
        self.gates = self._folder / "gates"
        self.gates.mkdir(exist_ok=True)
        self._journal = storm.journal
        self._environ = {
            **os.environ, "INNGEST_DEV": site.url, "CHAOS_JOURNAL": str(storm.journal), "NODE_ENV": "development",
        }  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self._syncing: threading.Thread | None = None

    def start(self, *, elsewhere: bool = False) -> None:
        """Start it, and let it register as soon as it answers, whatever becomes of `bus serve` meanwhile."""
        if elsewhere:
            self.port = free_port()
        there, port = home(SDKS[self.name]), str(self.port)
        if self.name == "js":
            command = ["node", str(HERE / "remote_app.mjs"), str(there), port, str(self._journal), str(self.gates)]
        else:
            uvicorn = str(there / "bin" / "uvicorn")
            command = [
                uvicorn, "remote_app:app", "--app-dir", str(HERE), "--port", port, "--log-level", "warning",
            ]  # fmt: skip
        with (self._folder / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(command, env=self._environ, stdout=log, stderr=log)
        self._syncing = threading.Thread(target=self._sync, args=(self._process,))
        self._syncing.start()

    def _sync(self, process: "subprocess.Popen[bytes]") -> None:
        while process.poll() is None:
            try:
                if httpx2.put(f"http://127.0.0.1:{self.port}/api/inngest", timeout=20).status_code == 200:
                    return
            except httpx2.HTTPError:
                pass
            time.sleep(0.05)

    def registered(self) -> None:
        """Wait until it has registered."""
        assert self._syncing is not None
        self._syncing.join(PATIENT_S)
        assert not self._syncing.is_alive(), f"{self.name} does not register"
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / f"{self.name}.log").read_text()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._syncing is not None
            self._syncing.join(PATIENT_S)


class RemoteStorm(Storm):
    """A storm in which applications and `bus serve` are killed too. `apps`: by name."""

    def __init__(self, folder: Path, names: "tuple[str, ...]" = ("js", "py"), **options: Any) -> None:
        super().__init__(folder, "remote", **options)
        self.site = Site(self)
        self.apps = {name: Application(name, self, self.site) for name in names}
        for app in self.apps.values():
            app.start()

    def await_workers(self) -> None:
        """Wait until all applications have registered, and each has a worker in each process."""
        for app in self.apps.values():
            app.registered()
        while self.store.zcard(keys.workers()) < len(self.workers) * len(self.apps):
            time.sleep(0.02)

    def ways(self) -> "dict[str, Callable[[], None]]":
        return {
            **super().ways(),
            "kill of an application": self.kill_app,
            "kill of bus serve": self.kill_site,
        }

    def kill_app(self) -> None:
        """Kill an application in the middle of its calls; each second time it comes back elsewhere, as after a deploy."""
        app = self.apps[self.random.choice([*self.apps])]
        app.kill()
        self.done["kill of an application"] += 1
        is_moved = self.done["kill of an application"] % 2 == 0
        self.done["move of an application"] += is_moved
        app.start(elsewhere=is_moved)

    def kill_site(self) -> None:
        self.site.kill()
        self.done["kill of bus serve"] += 1

    def calm(self) -> None:
        super().calm()
        for app in self.apps.values():
            app.registered()

    def close(self) -> None:
        for app in self.apps.values():
            app.kill()
        self.site.close()
        super().close()


class RemoteVerdict(Verdict):
    """The verdict over tests/chaos/remote_app.mjs and remote_app.py."""

    EXPECTED: ClassVar = {
        f"{app}-{function}": how
        for app in SDKS
        for function, how in {
            "three-plain": "completed", "three-saved": "completed", "three-buffered": "completed",
            "crossing": "completed", "child": "completed", "limited": "completed", "failing": "completed failed",
            "patient": "completed", "gated-plain": "completed", "gated-saved": "completed",
            "gated-buffered": "completed",
            "failing-failure": "completed",
        }.items()
    }  # fmt: skip
    SAYS: ClassVar = {
        f"{app}-{function}": says
        for app in SDKS
        for function, says in {
            "three-plain": ["a", "b", "c"], "three-saved": ["a", "b", "c"], "three-buffered": ["a", "b", "c"],
            "crossing": [True, "a", "a"], "child": "a", "limited": ["a", "b"], "failing": ["a", "good"], "patient": 0,
        }.items()
    }  # fmt: skip

    def __init__(self, storm: RemoteStorm, published: Publishing, watch: Watch) -> None:
        apps = [codec.decode_as(raw, App) for raw in storm.store.hvals(keys.apps())]
        self._late: Counter[tuple[str, str]] = Counter()
        super().__init__(storm, published, watch, [one for app in apps for one in bus_of(app).functions.values()])

    def _relations(self) -> None:
        """Calls and failures: told once, and to the right one."""
        for app in SDKS:
            runs = {slug.removeprefix(f"{app}-"): of for slug, of in self._runs.items() if slug.startswith(f"{app}-")}
            parents = Counter(kept.get("parent") for kept in runs["child"].values())
            for run in runs["crossing"]:
                if parents[f"{app}-crossing|{run}|call"] != 1:
                    self._say(
                        "doubled", f"{app}-crossing {run} called {parents[f'{app}-crossing|{run}|call']} children"
                    )
            slug, heard = f"{app}-failing-failure", runs["failing-failure"]
            told = Counter(
                json.loads(kept["event"])["data"]["run_id"]
                for kept in heard.values()
                if kept["status"] == "completed" or self._is_cut(slug, kept)
            )
            for run, kept in runs["failing"].items():
                if told[run] != (kept["status"] == "failed"):
                    self._say(
                        "doubled" if told[run] else "lost", f"onFailure of {app} heard {told[run]} times of {run}"
                    )

    def _is_cut(self, slug: str, kept: dict[str, str]) -> bool:
        """A call that breaks is an attempt; SDKs register onFailure with one (Python's) or two, and a run may be unlucky."""
        (function,) = (one for one in self._functions if one.slug == slug)
        return function.retry.retries < 2 and '"name":"call_broken"' in kept.get("error", "")

    def _is_stray(self, slug: str, line: dict[str, Any], of_run: list[dict[str, Any]]) -> bool:
        """Whether a body that began after its memo belongs to a call whose turn another worker has taken over.

        Nobody can hold back the first: the call was on its way, or its step was about to begin. A second one would have
        begun after the first was refused; but where an application saves several together, none is until then.
        """
        of_turn = {one["owner"] for one in of_run if one["turn"] == line["turn"]}
        is_older = line["turn"] < max(one["turn"] for one in of_run)
        if not is_older and (len(of_turn) == 1 or not self._follows_a_stop(line["owner"], of_run)):
            return False
        self._late[line["run"], line["owner"]] += 1
        return slug.endswith("buffered") or self._late[line["run"], line["owner"]] == 1

    def _follows_a_stop(self, owner: str, of_run: list[dict[str, Any]]) -> bool:
        """Whether a worker's first call was made right after one that had been stopped went on: of two with one turn
        nothing else tells which is the older."""
        first = min(one["at"] for one in of_run if one["owner"] == owner)
        return any(0 <= first - since < RIGHT_AFTER_MS for _, since in self._storm.resumed)
