"""Alerting: a site looks whether there are alerts, as workers do: nobody else would say that all of those are dead."""

import os
import secrets
import socket

from stepstream.bus.observe import log
from stepstream.bus.observe.signals import Signals
from stepstream.bus.settings import Settings
from stepstream.bus.wire.wire import Wire
from stepstream.consumers.alerts.evaluator import Evaluator
from stepstream.consumers.delivery.failing import Failing
from stepstream.consumers.upkeep.chores import Chore
from stepstream.web.store import Store


class Alerting:
    """The alerts of one site."""

    def __init__(self, store: Store, configured: Settings) -> None:
        self._store = store
        self._configured = configured
        self._by = f"site-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._signals = Signals()
        self._looks: tuple[Wire, Evaluator] | None = None

    async def run(self) -> None:
        """Look until cancelled, where the settings say where alerts are sent."""
        if not self._configured.has_alerts:
            return
        log.listen(self._signals)
        failing = Failing(self._signals, "looking for alerts failed")
        await Chore(self._once, failing, every_s=self._configured.alert_every_ms / 1_000).run()

    async def _once(self) -> float:
        wire = self._store.wire  # of the server that is meant now
        if self._looks is None or self._looks[0] is not wire:
            self._looks = wire, Evaluator(wire, self._by, self._signals.notice, alone=True)
        return await self._looks[1].once()
