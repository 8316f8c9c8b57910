"""The connections of a worker's readers: opened when all of them can be had, since half of its functions is no use."""

import asyncio
import random
from collections.abc import Sequence

from stepstream.bus.errors import ConfigError, StoreUnavailable
from stepstream.bus.observe.signals import Signals
from stepstream.bus.process import open_files
from stepstream.bus.wire.connection.retry import pause
from stepstream.bus.wire.doctor import clients
from stepstream.bus.wire.wire import Wire
from stepstream.consumers.delivery.reader import Reader

BESIDE = 3
"""Connections of a worker beside its readers': for commands, for big reads, for the leases."""
SPARE_FILES = 32
"""Files that are left to logs, step bodies and what they open."""
SPARE_CLIENTS = 10
"""Connections that are left to publishers, pages and commands."""
_AGAIN_S = 2.0


class ReaderConnections:
    """Opens a connection for every reader, or none."""

    def __init__(self, wire: Wire, signals: Signals, readers: Sequence[Reader], functions: int) -> None:
        self._wire = wire
        self._signals = signals
        self._readers = readers
        self._needed = len(readers) + BESIDE
        self._words = (
            f"{functions} function{'' if functions == 1 else 's'} need {self._needed} connections "
            f"(one for each of {len(readers)} streams, and {BESIDE})"
        )

    async def take(self) -> None:
        """Open a connection for every reader; waits, which is logged once, while others have too many.

        ConfigError when this process may not open so many files, or the server never has so many clients.
        """
        self._check_files()
        await self._wait_for_others()
        try:
            while not await self._opened():
                await self._give_back()
                await asyncio.sleep(_AGAIN_S * random.uniform(0.5, 1.5))
        except BaseException:
            await self._give_back()
            raise

    async def _give_back(self) -> None:
        await asyncio.gather(*(reader.close() for reader in self._readers))

    def _check_files(self) -> None:
        most, needed = open_files.limit(), open_files.open_now() + self._needed + SPARE_FILES
        if needed > most:
            raise ConfigError(
                f"{self._words}, with what is open and {SPARE_FILES} to spare {needed} open files; this process "
                f"may have {most}: raise the limit (ulimit -n {needed}, LimitNOFILE={needed} under systemd), or give "
                f"the functions to several workers"
            )

    async def _wait_for_others(self) -> None:
        is_logged = False
        while (found := await clients(self._wire)) is not None:
            most, others = found.most, found.connected - 1
            if self._needed + SPARE_CLIENTS > most:
                raise ConfigError(
                    f"{self._words}, and {SPARE_CLIENTS} are left to publishers and pages; this Redis takes {most}: "
                    f"CONFIG SET maxclients {2 * self._needed + SPARE_CLIENTS} (room for a second worker), or give the "
                    f"functions to several servers"
                )
            if others + self._needed + SPARE_CLIENTS <= most:
                return
            if not is_logged:
                is_logged = True
                self._signals.notice(
                    f"waiting for room: {self._words}", others=others, maxclients=most,
                    do="raise maxclients, or end what else is connected",
                )  # fmt: skip
            await asyncio.sleep(_AGAIN_S * random.uniform(0.5, 1.5))

    async def _opened(self) -> bool:
        """Open all, side by side (the wire paces them); False when there was no room for one of them."""
        return all(await asyncio.gather(*(self._open(reader) for reader in self._readers)))

    async def _open(self, reader: Reader) -> bool:
        tries = 0
        while True:
            try:
                await reader.open()
            except StoreUnavailable as error:
                if error.state in {"maxclients", "files"}:
                    return False
                tries += 1
                await asyncio.sleep(pause(tries))
            else:
                return True
