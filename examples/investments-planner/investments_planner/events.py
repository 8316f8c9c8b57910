"""The events of a night."""

from dataclasses import dataclass

from stepstream import EventData


@dataclass
class Tick:
    """What a schedule sends; nothing, when the function is invoked by hand."""

    cron: str = ""


class ScoringStarted(EventData, name="overnight/scoring.started"):
    """Scoring has begun."""

    correlation_id: str
    market: str


class ScoringCompleted(EventData, name="overnight/scoring.completed"):
    """All portfolios of a market are scored."""

    correlation_id: str
    market: str
    scored: int


class WarmingStarted(EventData, name="cache/warming.started"):
    """The caches of these users are to be warmed."""

    correlation_id: str
    users: list[str]


class WarmingCompleted(EventData, name="cache/warming.completed"):
    """The caches are warm."""

    correlation_id: str
    warmed: int
