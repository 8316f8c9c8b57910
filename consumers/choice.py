"""Choice: which driver calls the functions of a bus. The one place to name a driver."""

from stepstream.bus.bus import Bus
from stepstream.bus.settings import Settings
from stepstream.consumers.drivers.contract import Driver
from stepstream.consumers.drivers.local import LocalDriver
from stepstream.consumers.remote.functions import RemoteBus


def driver_of(bus: Bus, state: object, configured: Settings) -> Driver:
    """Return the driver of a bus; `state` is what its lifespan yielded."""
    if isinstance(bus, RemoteBus):
        from stepstream.consumers.remote.driver import RemoteDriver  # HTTP clients: a fifth of a second of a start

        return RemoteDriver(bus, configured)
    return LocalDriver(state)
