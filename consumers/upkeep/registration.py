"""Registration: writes again what this worker knows, should the registry have been lost."""

from collections.abc import Sequence

from stepstream.bus.function import Function
from stepstream.bus.observe.signals import Signals
from stepstream.bus.wire.types.own import types_of
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.registry import check_format, register
from stepstream.checkpoint.types import declare_types, say_no_more


class Registration:
    """The store's format, and one worker's functions with their triggers and types."""

    def __init__(self, wire: Wire, functions: Sequence[Function], signals: Signals | None = None) -> None:
        self._wire = wire
        self._functions = functions
        self._signals = signals or Signals()
        self._told: set[str] = set()
        self._pages: dict[str, int] = {}
        """Where the next page of declared types begins, for each bus."""

    async def once(self) -> None:
        """Write what is not there."""
        await check_format(self._wire)
        for function in self._functions:
            await register(self._wire, function)
        for bus in {function.bus_id for function in self._functions}:
            own = [function for function in self._functions if function.bus_id == bus]
            await self._declare(own)
            self._pages[bus] = await say_no_more(self._wire, own, self._pages.get(bus, 0))

    async def _declare(self, functions: Sequence[Function]) -> None:
        for name, schemas in types_of(functions).items():
            if not all(schema.exact for schema in schemas):
                self._tell("a type has no JSON Schema: only processes that have it check what is sent", name)
        for apart in await declare_types(self._wire, functions):
            self._tell(f"{apart.words}: what fits either is sent", apart.event)

    def _tell(self, what: str, name: str) -> None:
        """Tell of it once."""
        if f"{what} {name}" not in self._told:
            self._told.add(f"{what} {name}")
            self._signals.notice(what, name=name)
