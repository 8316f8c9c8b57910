"""Choice: which driver calls the functions of a bus. The one place to name a driver."""

from stepstream.bus.bus import Bus
from stepstream.consumers.drivers.contract import Driver
from stepstream.consumers.drivers.local import LocalDriver


def driver_of(bus: Bus, state: object) -> Driver:  # noqa: ARG001 - all functions are Python in this process, today
    """Return the driver of a bus; `state` is what its lifespan yielded."""
    return LocalDriver(state)
