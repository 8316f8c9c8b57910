"""What /metrics of a site tells: the store as gauges, of at most 500 functions, and what this process has taken."""

import asyncio
from collections import Counter
from collections.abc import Iterator

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from stepstream.bus.wire.doctor import Durability, Server, durability, server
from stepstream.bus.wire.publishing import Publisher
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.at_work.overview import AtWork, Overview, look_over
from stepstream.checkpoint.at_work.streams import Stream, streams
from stepstream.checkpoint.read.lists.pulse import oldest
from stepstream.producers.schedules import Schedule, schedules

MOST_FUNCTIONS = 500
"""Of so many functions, the first by name, it is told; `stepstream_functions_left_out` says of how many it is not."""
_MOST_STREAMS = 2_000

GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "redis_up": ("1 when Redis answered within 2 s; else nothing of the store is here.", ()),
    "store_read": ("1 when all that is here could be read within 7 s more; else nothing of the store is here.", ()),
    "functions": ("Functions that are registered.", ()),
    "functions_left_out": ("Of so many of them nothing is here, for there are more than 500.", ()),
    "runs": ("Runs that are kept, by status.", ("function", "status")),
    "unread_events": ("Events that wait for a function to begin a run; at least so many.", ("function",)),
    "unread_turns": ("Turns that are due and that no worker has read yet (the lag of the queue).", ("function",)),
    "entries_in_hand": (
        "Entries that workers have read and not finished with, of the queue or of events (the length of the PEL).",
        ("function", "stream"),
    ),
    "stream_entries": ("Entries that are kept in all queues, or in all streams of events.", ("stream",)),
    "oldest_queued_seconds": ("How long the oldest queued run has waited; 0: none is queued.", ("function",)),
    "oldest_running_seconds": ("How long ago the oldest running run was queued; 0: none runs.", ("function",)),
    "workers": ("Workers that serve a function.", ("function",)),
    "paused": ("1 while a function is paused.", ("function",)),
    "missed_ticks": (
        "Ticks of a function's schedules that are over and that no worker has seen; of each at most 10.",
        ("function",),
    ),
    "last_hour_runs": ("Runs that started, or ended so, in the last 60 minutes.", ("function", "what")),
    "last_hour_took_seconds": (
        "About how long runs took that ended in the last 60 minutes.",
        ("function", "quantile"),
    ),
    "trouble": ("What is wrong, as the Overview lists it: bad, or to be looked at (wait).", ("how",)),
    "redis_memory_bytes": ("Memory that Redis uses.", ()),
    "redis_memory_most_bytes": ("Its maxmemory; 0: no bound.", ()),
    "redis_evicted_keys": ("Keys that it has evicted since it started: any is one too many.", ()),
    "redis_primary": ("1 when the server is a primary; a replica takes no writes.", ()),
    "redis_aof": ("1 when it keeps an append-only file.", ()),
    "redis_written": ("1 when its last writes to its files went well.", ()),
    "redis_replicas": ("Replicas that are connected.", ()),
    "redis_replica_behind_bytes": ("What the last of them has not confirmed yet; a failover may lose it.", ()),
}
"""What each gauge says, and its labels; the names begin with `stepstream_`. All are of the whole store."""
COUNTERS: dict[str, str] = {
    "site_events_stored": "Events that this process has stored, those too that were there.",
    "site_events_repeated": "Those of them that were stored before: their id came again.",
}
"""What this process counts."""


class Looked(msgspec.Struct, frozen=True):
    """What was read for a scrape."""

    overview: Overview
    running: dict[str, tuple[int, str]]
    streams: list[Stream]
    schedules: list[Schedule]
    server: Server | None
    durability: Durability | None


async def looked_at(wire: Wire) -> Looked:
    """Read what there is to tell; StoreUnavailable when Redis does not answer."""
    look, found, about, keeps = await asyncio.gather(
        look_over(wire), streams(wire, limit=_MOST_STREAMS), server(wire), durability(wire)
    )
    shown = [one.function for one in look.facts][:MOST_FUNCTIONS]
    running, ticks = await asyncio.gather(oldest(wire, [one.slug for one in shown], "running"), schedules(wire, shown))
    return Looked(look.told(), running, found.streams, ticks, about, keeps)


class Measures:
    """What is told of a moment, as the library's encoders take it; `seen` is None where the store was not read."""

    def __init__(self, seen: Looked | None, publisher: Publisher, *, is_up: bool) -> None:
        self._seen = seen
        self._is_up = is_up
        self._counted = {"site_events_stored": publisher.stored, "site_events_repeated": publisher.repeated}
        self._gauges: dict[str, GaugeMetricFamily] = {}

    def collect(self) -> Iterator[Metric]:
        """Return what there is; of what is not known there is nothing."""
        self._gauges = {
            name: GaugeMetricFamily(f"stepstream_{name}", words, labels=labels)
            for name, (words, labels) in GAUGES.items()
        }
        self._add("redis_up", self._is_up)
        self._add("store_read", self._seen is not None)
        if self._seen is not None:
            self._of_store(self._seen)
        yield from (one for one in self._gauges.values() if one.samples)
        for name, words in COUNTERS.items():
            yield CounterMetricFamily(f"stepstream_{name}", words, value=self._counted[name])

    def _add(self, gauge: str, value: float, *labels: str) -> None:
        self._gauges[gauge].add_metric(labels, float(value))

    def _of_store(self, seen: Looked) -> None:
        found = seen.overview
        shown = found.functions[:MOST_FUNCTIONS]
        self._add("functions", len(found.functions))
        self._add("functions_left_out", len(found.functions) - len(shown))
        for one in shown:
            self._of_function(one, found.at, seen.running)
        known = {one.function for one in shown}
        self._of_streams(seen.streams, known)
        missed = Counter[str]()
        for tick in seen.schedules:
            missed[tick.function] += 0 if tick.paused is not None else tick.missed
        for slug, count in missed.items():
            self._add("missed_ticks", count, slug)
        how_bad = Counter({"bad": 0, "wait": 0})
        how_bad.update(one.how for one in found.trouble)
        for how, count in how_bad.items():
            self._add("trouble", count, how)
        self._of_redis(seen.server, seen.durability)

    def _of_function(self, one: AtWork, at: int, running: dict[str, tuple[int, str]]) -> None:
        slug, hour = one.function, one.hour
        for status, count in one.runs.items():
            self._add("runs", count, slug, status)
        self._add("unread_events", one.unread, slug)
        self._add("oldest_queued_seconds", max(0, at - one.oldest) / 1_000 if one.oldest is not None else 0, slug)
        since = running.get(slug)
        self._add("oldest_running_seconds", max(0, at - since[0]) / 1_000 if since is not None else 0, slug)
        self._add("workers", one.workers, slug)
        self._add("paused", one.paused is not None, slug)
        for what, count in (("started", hour.started), ("completed", hour.completed), ("failed", hour.failed),
                            ("cancelled", hour.cancelled)):  # fmt: skip
            self._add("last_hour_runs", count, slug, what)
        for quantile, took in (("0.5", hour.took_p50), ("0.95", hour.took_p95)):
            if took is not None:
                self._add("last_hour_took_seconds", took / 1_000, slug, quantile)

    def _of_streams(self, found: list[Stream], known: set[str]) -> None:
        entries, in_hand, turns = Counter({"queue": 0, "events": 0}), Counter[tuple[str, str]](), Counter[str]()
        for one in found:
            entries[one.kind] += one.entries
            for reader in one.readers:
                in_hand[reader.function, one.kind] += reader.in_hand
                turns[reader.function] += reader.unread or 0 if one.kind == "queue" else 0
        for kind, count in entries.items():
            self._add("stream_entries", count, kind)
        for slug in sorted(known):
            self._add("unread_turns", turns[slug], slug)
            for kind in entries:
                self._add("entries_in_hand", in_hand[slug, kind], slug, kind)

    def _of_redis(self, about: Server | None, keeps: Durability | None) -> None:
        if about is not None:  # else this user may not ask
            self._add("redis_memory_bytes", about.used)
            self._add("redis_memory_most_bytes", about.most)
            self._add("redis_evicted_keys", about.evicted)
        if keeps is not None:
            self._add("redis_primary", keeps.is_primary)
            self._add("redis_aof", keeps.has_aof)
            self._add("redis_written", keeps.is_written)
            self._add("redis_replicas", keeps.replicas)
            self._add("redis_replica_behind_bytes", keeps.behind)
