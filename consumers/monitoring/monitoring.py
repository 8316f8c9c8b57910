"""Monitoring: what a worker process answers at its metrics port."""

from collections.abc import Callable

import msgspec
from prometheus_client.exposition import choose_encoder

from stepstream.bus.observe.signals import Signals
from stepstream.bus.settings import Settings
from stepstream.bus.values import codec
from stepstream.consumers.monitoring.counted import Counted
from stepstream.consumers.monitoring.pulse import BLOCKED_S, Pulse
from stepstream.consumers.monitoring.server import Answer, MonitoringServer
from stepstream.consumers.standing import Standing


class Monitoring:
    """Counts what the signals tell and answers /metrics, /health and /ready, from inside the running loop to close().

    `stands` tells how the process stands; it is called in threads.
    """

    def __init__(self, settings: Settings, port: int, signals: Signals, stands: Callable[[], Standing]) -> None:
        """Begin; ConfigError when the port cannot be listened on."""
        self._stands = stands
        self._most_still_s = min(BLOCKED_S, settings.stall_ms / 1_000)
        self._pulse = Pulse()
        self._counted = Counted(signals, self.standing)
        routes = {"/metrics": self._metrics, "/health": self._health, "/ready": self._ready}
        try:
            self._server = MonitoringServer(settings.metrics_host, port, routes)
        except BaseException:
            self._pulse.stop()
            raise
        self.url = self._server.url
        """Where it listens."""

    def close(self) -> None:
        """Answer no more."""
        self._pulse.stop()
        self._server.close()

    def standing(self) -> Standing:
        """Return how the process stands: a worker whose loop is blocked is not ready, whatever it knows of itself."""
        still_s, now = self._pulse.still_s, self._stands()
        blocked = self._blocked(still_s)
        return msgspec.structs.replace(now, still_s=still_s, not_ready=blocked or now.not_ready)

    def _blocked(self, still_s: float) -> str:
        if still_s <= self._most_still_s:
            return ""
        return f"its event loop has been blocked for {still_s:.1f} s; call blocking code in a sync step"

    def _metrics(self, accept: str) -> Answer:
        encode, kind = choose_encoder(accept)
        return Answer(200, kind, encode(self._counted))

    def _health(self, _accept: str) -> Answer:
        still_s = self._pulse.still_s
        why = self._blocked(still_s)
        return _told(not why, why, loop_still_s=round(still_s, 1))

    def _ready(self, _accept: str) -> Answer:
        why = self.standing().not_ready
        return _told(not why, why)


def _told(is_well: bool, why: str, **more: object) -> Answer:
    """Return an answer as the site gives it: 200, or 503 with the reason."""
    told = {"status": "ok", **more} if is_well else {"status": "unavailable", "error": why, **more}
    return Answer(200 if is_well else 503, "application/json", codec.encode(told))
