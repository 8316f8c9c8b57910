"""LimitChanges: lets lines be tried again when a limit was set otherwise, was taken back, or its time is over."""

from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.controls.limits import line_ends
from stepstream.checkpoint.controls.overrides import forget_over
from stepstream.checkpoint.upkeep.retention import LINES_AT_ONCE, retry_backlogs
from stepstream.consumers.delivery.delivery import Feed
from stepstream.consumers.delivery.feeds import Feeds

_LONGEST_S = 30.0
"""How soon it is looked again while a limit is set otherwise: the server's clock may be set."""
_NEVER_S = 86_400.0


class LimitChanges:
    """The limits of one worker's functions; `feeds` rings when what is set changes."""

    def __init__(self, wire: Wire, feeds: Feeds) -> None:
        self._wire = wire
        self._feeds = feeds
        self._known: dict[str, list[str]] = {}

    async def once(self) -> float:
        """Look what is in force; return seconds until something of it ends."""
        queues = [
            one for one in self._feeds if one.kind == "queue" and (one.overrides or one.function.slug in self._known)
        ]
        if not queues:
            return _NEVER_S
        now = await self._wire.moment()
        left: list[int] = []
        is_over = False
        for feed in queues:
            ends = line_ends(feed.overrides)
            left += [end for end in ends if end > now]
            is_over = is_over or any(end <= now for end in ends)
            lines = zip(feed.overrides.split("\n"), ends, strict=False)
            await self._try_again(feed, [line for line, end in lines if end > now])
        if is_over:
            await forget_over(self._wire, self._feeds.controls, now)
        return min(_LONGEST_S, (min(left) - now + 1) / 1_000) if left else _NEVER_S

    async def _try_again(self, feed: Feed, lines: list[str]) -> None:
        """Let all lines that are full be tried, when what is in force is not what it was at the last look."""
        slug = feed.function.slug
        if lines == self._known.get(slug, []):
            return
        count = int(await self._wire.call("ZCARD", keys.full(slug)))
        for _ in range(-(-count // LINES_AT_ONCE)):
            await retry_backlogs(self._wire, slug)
        if feed.backlog is not None:
            feed.backlog.ring()
        if lines:
            self._known[slug] = lines
        else:
            self._known.pop(slug, None)
