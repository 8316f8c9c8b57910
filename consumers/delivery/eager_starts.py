"""Eager starts: which functions' runs are started in the round trip that reads their event."""

from stepstream.bus.values.ids import partitions
from stepstream.bus.wire.connection.pipeline import Pipe
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.eager_start import EagerStart
from stepstream.consumers.delivery.delivery import Source


class EagerStarts:
    """Sends the starts of one source behind its blocked reads."""

    def __init__(self, wire: Wire, source: Source) -> None:
        self._wire = wire
        self._source = source

    @staticmethod
    def are_for(source: Source) -> bool:
        """Whether each event of a source begins a run of which nothing must be worked out first, nor where it lies."""
        function = source.function
        return not (
            function.flow.is_regulated
            or len(partitions(function.slug)) > 1
            or function.cancel_on
            or function.timeouts.start_ms
            or function.timeouts.finish_ms
            or any(trigger.condition for trigger in source.triggers)
        )

    def send(self, pipe: Pipe, newest: str) -> EagerStart:
        """Send a start behind the read just sent; `newest` is the newest entry that was read before."""
        source = self._source
        return EagerStart(self._wire, pipe, source.function, source.name, source.lease.consumer, newest)
