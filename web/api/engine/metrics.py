"""/metrics: what the Overview shows, as gauges in the text format of Prometheus."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from stepstream.bus.wire.doctor import Server, server
from stepstream.checkpoint.at_work.overview import AtWork, Overview, look_over
from stepstream.web.routing import NeedsRoute
from stepstream.web.store import wire_of
from stepstream.web.table.about import TEXT, About

_FORMAT = f"{TEXT}; version=0.0.4; charset=utf-8"
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


class Gauge(msgspec.Struct, frozen=True):
    """A value at a moment, with its labels."""

    name: str
    value: float
    labels: Mapping[str, str] = {}

    @property
    def line(self) -> str:
        """The line that tells it."""
        told = ",".join(f'{label}="{text.translate(_ESCAPES)}"' for label, text in self.labels.items())
        return f"{self.name}{{{told}}} {float(self.value):.15g}" if told else f"{self.name} {float(self.value):.15g}"


HELP = {
    "stepstream_runs": "Runs that are kept, by status.",
    "stepstream_unread_events": "Events that wait for a function to begin a run; at least so many.",
    "stepstream_oldest_queued_seconds": "How long the oldest queued run has waited; 0: none is queued.",
    "stepstream_workers": "Workers that serve a function.",
    "stepstream_paused": "1 while a function is paused.",
    "stepstream_last_hour_runs": "Runs that started, or ended so, in the last 60 minutes.",
    "stepstream_last_hour_took_seconds": "About how long runs took that ended in the last 60 minutes.",
    "stepstream_trouble": "What is wrong, as the Overview lists it: bad, or to be looked at (wait).",
    "stepstream_redis_memory_bytes": "Memory that Redis uses.",
    "stepstream_redis_memory_most_bytes": "Its maxmemory; 0: no bound.",
    "stepstream_redis_evicted_keys": "Keys that it has evicted since it started: any is one too many.",
}
"""What each gauge says. All are of the whole store: any process that serves /metrics tells the same."""


def gauges(seen: Overview, about: Server | None) -> list[Gauge]:
    """Return what is told of a moment."""
    found = [one for each in seen.functions for one in _of_function(each, seen.at)]
    how_bad = Counter({"bad": 0, "wait": 0})
    how_bad.update(one.how for one in seen.trouble)
    found += [Gauge("stepstream_trouble", count, {"how": how}) for how, count in how_bad.items()]
    if about is None:  # this user may not ask
        return found
    return [
        *found,
        Gauge("stepstream_redis_memory_bytes", about.used),
        Gauge("stepstream_redis_memory_most_bytes", about.most),
        Gauge("stepstream_redis_evicted_keys", about.evicted),
    ]


def _of_function(one: AtWork, at: int) -> Iterator[Gauge]:
    of = {"function": one.function}
    for status, count in one.runs.items():
        yield Gauge("stepstream_runs", count, {**of, "status": status})
    yield Gauge("stepstream_unread_events", one.unread, of)
    waited = max(0, at - one.oldest) / 1_000 if one.oldest is not None else 0
    yield Gauge("stepstream_oldest_queued_seconds", waited, of)
    yield Gauge("stepstream_workers", one.workers, of)
    yield Gauge("stepstream_paused", one.paused is not None, of)
    hour = one.hour
    for what, count in (("started", hour.started), ("completed", hour.completed), ("failed", hour.failed),
                        ("cancelled", hour.cancelled)):  # fmt: skip
        yield Gauge("stepstream_last_hour_runs", count, {**of, "what": what})
    for quantile, took in (("0.5", hour.took_p50), ("0.95", hour.took_p95)):
        if took is not None:
            yield Gauge("stepstream_last_hour_took_seconds", took / 1_000, {**of, "quantile": quantile})


def text_of(several: list[Gauge]) -> str:
    """Return gauges as Prometheus reads them, those of one name together."""
    lines: list[str] = []
    for name, words in HELP.items():
        own = [one.line for one in several if one.name == name]
        lines += [f"# HELP {name} {words}", f"# TYPE {name} gauge", *own] if own else []
    return "".join(f"{line}\n" for line in lines)


async def _metrics(request: Request) -> Response:
    wire = wire_of(request)
    seen, about = await asyncio.gather(look_over(wire), server(wire))
    return Response(text_of(gauges(seen.told(), about)), headers={"content-type": _FORMAT})


routes = [
    NeedsRoute(
        "GET",
        "/metrics",
        _metrics,
        needs="read",
        name="metrics",
        about=About(
            summary="What the Overview shows, as gauges for Prometheus, of the whole store: ask one process.",
            answer=TEXT,
        ),
    ),
]
