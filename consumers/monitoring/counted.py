"""What one worker process counts of what its signals tell, for Prometheus.

No label is a run, a step or anything that an event brings: series stay as long as the process lives. Names of
functions, errors and states are bounded; what comes beyond is counted as `other`.
"""

from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Generic, NamedTuple, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import Metric

from stepstream.bus.observe.signals import (
    AttemptFailed,
    ChoreDone,
    EntryDropped,
    LeasesRenewed,
    NotStarted,
    Reclaimed,
    RedisFailed,
    RunEnded,
    RunStarted,
    RunSuspended,
    Signals,
    StepSaved,
    WriteRefused,
)
from stepstream.consumers.standing import Standing

MOST_FUNCTIONS = 500
"""So many functions have series of their own."""
MOST_NAMES = 50
"""So many errors, and so many states of Redis."""
_OTHER = "other"
_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_LONG = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3_600, 21_600, 86_400)
_STATUS = {"completed", "failed", "cancelled"}

M = TypeVar("M", Counter, Histogram)


class Described(NamedTuple):
    """A metric, for its page: its name as it is asked for, what it is, its labels, what it says."""

    name: str
    kind: str
    labels: tuple[str, ...]
    words: str


class _Names:
    """The values of a label: the first `most` of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def of(self, name: str) -> str:
        """Return a name, or `other` when there are too many."""
        if name not in self._known:
            if len(self._known) >= self._most:
                return _OTHER
            self._known.add(name)
        return name


class _Series(dict[tuple[str, ...], M], Generic[M]):
    """The series of a metric by the values of their labels: found without the lock and the copies of the library."""

    def __init__(self, metric: M) -> None:
        self._metric = metric

    def __missing__(self, values: tuple[str, ...]) -> M:
        made = self[values] = self._metric.labels(*values) if values else self._metric
        return made


class Counted:
    """The metrics of one worker process. `standing` tells how it stands when they are asked for."""

    def __init__(self, signals: Signals, standing: Callable[[], Standing]) -> None:
        self.registry = CollectorRegistry()
        self.described: list[Described] = []
        """All of its own metrics; those of the process itself are the library's."""
        self._standing = standing
        self._functions = _Names(MOST_FUNCTIONS)
        self._errors = _Names(MOST_NAMES)
        self._states = _Names(MOST_NAMES)
        self._count_runs(signals)
        self._count_steps(signals)
        self._count_entries(signals)
        self._count_redis(signals)
        self._tell_standing()
        ProcessCollector(registry=self.registry)

    def collect(self) -> Iterator[Metric]:
        """Return what there is, without the times at which each series began, which nobody asks for."""
        for metric in self.registry.collect():
            metric.samples = [one for one in metric.samples if not one.name.endswith("_created")]
            yield metric

    def _counter(self, name: str, words: str, *labels: str) -> _Series[Counter]:
        full = f"stepstream_worker_{name}"
        self.described.append(Described(f"{full}_total", "counter", labels, words))
        return _Series(Counter(full, words, labels, registry=self.registry))

    def _histogram(self, name: str, words: str, bounds: tuple[float, ...], *labels: str) -> _Series[Histogram]:
        full = f"stepstream_worker_{name}"
        self.described.append(Described(full, "histogram", labels, words))
        return _Series(Histogram(full, words, labels, registry=self.registry, buckets=bounds))

    def _gauge(self, name: str, words: str, *labels: str) -> Gauge:
        full = f"stepstream_worker_{name}"
        self.described.append(Described(full, "gauge", labels, words))
        return Gauge(full, words, labels, registry=self.registry)

    def _count_runs(self, signals: Signals) -> None:
        function = self._functions.of
        started = self._counter("runs_started", "Runs whose code was called for the first time.", "function")
        turns = self._counter(
            "turns_started", "Turns: calls of a run's code, the first and each later one.", "function"
        )
        waited = self._histogram(
            "queue_wait_seconds", "From the entry that began a run to the first call of its code.", _LONG, "function"
        )
        ended = self._counter("runs_ended", "Runs that ended, by status.", "function", "status")
        took = self._histogram(
            "run_seconds", "From the first call of a run's code to its end, waits included.", _LONG, "function"
        )
        suspended = self._counter("runs_suspended", "Times that runs began to wait without a worker.", "function")

        def run_started(signal: RunStarted) -> None:
            slug = function(signal.function)
            turns[slug,].inc()
            if signal.waited_ms is not None:
                started[slug,].inc()
                waited[slug,].observe(signal.waited_ms / 1_000)

        def run_ended(signal: RunEnded) -> None:
            slug = function(signal.function)
            ended[slug, signal.status if signal.status in _STATUS else _OTHER].inc()
            if signal.took_ms is not None:
                took[slug,].observe(signal.took_ms / 1_000)

        def run_suspended(signal: RunSuspended) -> None:
            suspended[function(signal.function),].inc()

        signals.run_started.listen(run_started)
        signals.run_ended.listen(run_ended)
        signals.run_suspended.listen(run_suspended)

    def _count_steps(self, signals: Signals) -> None:
        function, error_of = self._functions.of, self._errors.of
        steps = self._counter("steps", "Steps that were recorded, by kind and outcome.", "function", "kind", "outcome")
        took = self._histogram("step_seconds", "How long the body of a recorded step took.", _LONG, "function")
        attempts = self._counter(
            "attempts_failed",
            "Attempts that failed: of a step, or of the code between; whether another follows; the error's class.",
            "function",
            "part",
            "retried",
            "error",
        )

        def step_saved(signal: StepSaved) -> None:
            slug = function(signal.function)
            steps[slug, signal.kind, "failed" if signal.has_failed else "completed"].inc()
            took[slug,].observe(signal.took_ms / 1_000)

        def attempt_failed(signal: AttemptFailed) -> None:
            part, retried = "step" if signal.step else "run", "no" if signal.delay_ms is None else "yes"
            attempts[function(signal.function), part, retried, error_of(signal.name)].inc()

        signals.step_saved.listen(step_saved)
        signals.attempt_failed.listen(attempt_failed)

    def _count_entries(self, signals: Signals) -> None:
        function = self._functions.of
        passed = self._counter(
            "entries_not_started",
            "Entries that were read and whose run's code was not called: delivered twice, ended, cancelled, too late.",
            "function",
            "why",
        )
        fenced = self._counter(
            "fenced_writes", "Writes that Redis refused, for the turn was not the run's any more.", "function", "word"
        )
        dead = self._counter(
            "dead_letters",
            "Given up: entries that make no sense, and runs whose worker died again and again.",
            "function",
            "why",
        )
        reclaimed = self._counter(
            "reclaimed_entries", "Entries taken over from a dead worker, or from one that gave them back.",
            "function", "origin",
        )  # fmt: skip

        def not_started(signal: NotStarted) -> None:
            passed[function(signal.function), signal.why].inc()
            if signal.why == "crashed":
                dead[function(signal.function), "worker_crash"].inc()

        def write_refused(signal: WriteRefused) -> None:
            fenced[function(signal.function), signal.word].inc()

        def entry_dropped(signal: EntryDropped) -> None:
            dead[function(signal.function), "senseless"].inc()

        def entries_reclaimed(signal: Reclaimed) -> None:
            slug = function(signal.function)
            reclaimed[slug, "dead"].inc(signal.from_dead)
            reclaimed[slug, "given_back"].inc(signal.entries - signal.from_dead)

        signals.not_started.listen(not_started)
        signals.write_refused.listen(write_refused)
        signals.entry_dropped.listen(entry_dropped)
        signals.reclaimed.listen(entries_reclaimed)

    def _count_redis(self, signals: Signals) -> None:
        state = self._states.of
        renewed = self._counter("lease_renewals", "Renewals of leases that Redis confirmed.")[()]
        lost = self._counter("leases_lost", "Leases that had run out: what was in hand under them is others'.")[()]
        refused = self._counter("lease_renewals_refused", "Renewals of leases that failed or were refused.")[()]
        late = self._histogram("lease_lateness_seconds", "How late each renewal of the leases was sent.", _SHORT)[()]
        errors = self._counter("redis_errors", "Commands refused and connections broken, by what was said.", "state")
        opened = self._counter("redis_connections_opened", "Connections to Redis that were opened, again or not.")[()]
        chores = self._histogram("chore_seconds", "How long a round of each chore took.", _SHORT, "chore")

        def leases_renewed(signal: LeasesRenewed) -> None:
            renewed.inc(signal.renewed)
            lost.inc(signal.lost)
            refused.inc(signal.refused)
            late.observe(signal.late_ms / 1_000)

        def redis_failed(signal: RedisFailed) -> None:
            errors[state(signal.state),].inc()

        def chore_done(signal: ChoreDone) -> None:
            chores[signal.chore,].observe(signal.took_ms / 1_000)

        signals.leases_renewed.listen(leases_renewed)
        signals.redis_failed.listen(redis_failed)
        signals.connection_opened.listen(lambda _: opened.inc())
        signals.chore_done.listen(chore_done)

    def _tell_standing(self) -> None:
        def gauge(name: str, words: str, value: Callable[[Standing], float]) -> None:
            self._gauge(name, words).set_function(lambda: value(self._standing()))

        gauge("slots", "Turns that it may run at once.", lambda now: now.slots)
        gauge("slots_busy", "Slots that are taken.", lambda now: now.busy)
        gauge("entries_waiting", "Entries in hand that have no slot yet.", lambda now: now.waiting)
        gauge("ready", "1 while it reads and begins what is due; what /ready says.", lambda now: not now.not_ready)
        gauge("loop_still_seconds", "For how long its event loop has not turned.", lambda now: now.still_s)
        self._gauge("info", "The version it runs.", "version").labels(version("stepstream")).set(1)
