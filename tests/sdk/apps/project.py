"""One application of examples/sdk/apps with all around it: a server, `bus serve`, `bus worker --remote`, the outside world."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from stand_ins import Told, calls, tell
from stand_ins.web import site

from examples.sdk import projects
from tests.patience import PATIENT_S
from tests.sdk.stack import AppProcess, Stack
from tests.support import free_port, until

AFTER_A_BROKEN_CALL_S = PATIENT_S + 45
"""For what goes on after a call was cut: the next attempt comes 15 to 45 s later, as the SDKs expect."""


class ProjectProcess(AppProcess):
    """The application itself: node, started in its folder as its package.json says."""

    @property
    def urls(self) -> list[str]:
        return [self.url]

    def command(self) -> list[str]:
        return ["node", "--import", "tsx", "src/main.ts"]

    def has_died(self) -> bool:
        return self.process is not None and self.process.poll() is not None


class Project(Stack):
    """The whole of it, and what tests ask of it."""

    def __init__(self, name: str, folder: Path, environ: Mapping[str, str], app: Mapping[str, str]) -> None:
        super().__init__(name, folder, {"BUS_LEASE": "1s", **environ})
        self.app_id = name
        self.told = folder / "stand-ins.json"
        self.tell({})
        self._outside = _Outside(self.told)
        given = {"STAND_INS_URL": self._outside.url, "DATA_FOLDER": str(folder / "data")}
        if app.get("INNGEST_DEV") == "0":
            given["INNGEST_BASE_URL"] = self.url
        self.app: ProjectProcess = ProjectProcess(name, folder, self.url, {**given, **app})
        self.app.cwd = projects.ready(installs=False) / name
        self.web = httpx2.Client(base_url=f"http://127.0.0.1:{self.app.port}", timeout=30, trust_env=False)

    def tell(self, told: Mapping[str, Told]) -> None:
        """Tell the outside world what is to happen; "hold" ends where this does not say it again."""
        tell(self.told, told)

    def called(self, call: str) -> int:
        """Return how often a call was made outside."""
        return calls(self.told)[call]

    def wait_called(self, call: str, times: int = 1) -> None:
        until(lambda: self.called(call) >= times, f"{call} is asked {times} times; {calls(self.told)}")

    def functions(self) -> dict[str, dict[str, Any]]:
        """Return what has registered, by the application's own ids."""
        found = self.http.get("/v1/functions").json()["data"]
        return {one["id"]: one for one in found if one["bus"] == self.app_id}

    def restart_app(self) -> None:
        """Start the application again once it has died."""
        until(self.app.has_died, "the application dies")
        self.app.start()

    def kill_worker(self) -> None:
        """End the worker at once, and start another."""
        assert self.worker is not None
        self.worker.kill()
        self.start_worker()

    def stop(self) -> None:
        self.tell({})
        self.web.close()
        super().stop()
        self._outside.stop()


class _Outside:
    """The stand-ins' server, in a thread."""

    def __init__(self, told: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        config = uvicorn.Config(site(told), port=port, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        until(lambda: self._server.started, "the outside world answers")

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
