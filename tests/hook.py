"""A webhook on this machine, in a thread of its own, and a process that looks whether there are alerts for it."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

from stepstream.bus.settings import Settings
from stepstream.bus.wire.wire import Wire
from stepstream.consumers.alerts.evaluator import Evaluator
from tests.support import until

SECRET = "T0SECRET/B0SECRET/verysecretpart"


class Hook:
    """`url` has a secret path; `status` is what is answered, `hangs` whether nothing is, until `release()`.

    `echoes` makes what a refusal says, of the path and of the header Authorization.
    """

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.status = 200
        self.hangs = False
        self.echoes: Callable[[str, str], str] = lambda path, authorization: f"no: {path}"
        self._released = threading.Event()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hook.paths.append(self.path)
                hook.bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                if hook.hangs:
                    hook._released.wait()
                status = hook.status
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("location", f"{hook.origin}/elsewhere")
                told = hook.echoes(self.path, self.headers.get("authorization", ""))
                body = told.encode() if status >= 400 else b"ok"
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the signature is of http.server
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.url = f"{self.origin}/services/{SECRET}"

    @property
    def told(self) -> list[tuple[str, str, str]]:
        """What has come: rule, function and state of each alert."""
        return [
            (one["rule"], one["function"], "reminder" if one["reminder"] else one["state"])
            for body in self.bodies
            for one in body.get("alerts", ())
        ]

    def heard(self, *expected: tuple[str, str, str]) -> None:
        """Wait until these have come."""
        until(lambda: set(expected) <= set(self.told) or None, f"{expected} told; {self.told}")

    def release(self) -> None:
        self._released.set()

    def __enter__(self) -> "Hook":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()


class Looking:
    """A process that looks for alerts; the test says when."""

    def __init__(
        self, settings: Settings, hook: Hook, *rules: str, by: str = "one", alone: bool = False, **more: Any
    ) -> None:
        given = {"alert_webhook": hook.url, "alert_rules": rules, "alert_every_ms": 500, **more}
        self.settings = msgspec.structs.replace(settings, **given)
        self.wire = Wire(self.settings, by)
        self.notices: list[str] = []
        self.evaluator = Evaluator(self.wire, by, self._noticed, alone=alone)

    async def __aenter__(self) -> "Looking":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.wire.close()

    def _noticed(self, event: str, **fields: object) -> None:
        self.notices.append(f"{event} {fields}")

    async def rounds(self, count: int = 1) -> None:
        for _ in range(count):
            await self.evaluator.once()
