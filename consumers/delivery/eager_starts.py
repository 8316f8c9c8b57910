"""Eager starts: which functions' runs are started in the round trip that reads their event."""

from stepstream.bus.values.ids import partitions
from stepstream.bus.wire.connection.pipeline import Pipe
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.run.eager_start import EagerStart
from stepstream.consumers.delivery.delivery import Feed


class EagerStarts:
    """Sends the starts of one feed behind its blocked reads."""

    def __init__(self, wire: Wire, feed: Feed) -> None:
        self._wire = wire
        self._feed = feed

    @staticmethod
    def are_for(feed: Feed) -> bool:
        """Whether each event of a feed begins a run of which nothing must be worked out first, nor where it lies."""
        function = feed.function
        return not (
            function.flow.is_regulated
            or len(partitions(function.slug)) > 1
            or function.cancel_on
            or function.timeouts.start_ms
            or function.timeouts.finish_ms
            or any(trigger.condition for trigger in feed.triggers)
        )

    def send(self, pipe: Pipe, newest: str) -> EagerStart:
        """Send a start behind the read just sent; `newest` is the newest entry that was read before."""
        feed = self._feed
        return EagerStart(self._wire, pipe, feed.function, feed.name, feed.lease.consumer, newest)
