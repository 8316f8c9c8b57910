"""Registration: writes again what this worker knows, should the registry have been lost."""

from collections.abc import Sequence

from stepstream.bus.function import Function
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.registry import check_format, register


class Registration:
    """The store's format, and one worker's functions with their triggers."""

    def __init__(self, wire: Wire, functions: Sequence[Function]) -> None:
        self._wire = wire
        self._functions = functions

    async def once(self) -> None:
        """Write what is not there."""
        await check_format(self._wire)
        for function in self._functions:
            await register(self._wire, function)
