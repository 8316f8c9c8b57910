"""Verdict: what a storm has left in Redis, compared with what was published; nothing but right things is passed over.

Every claim has a list of what speaks against it, so that one look tells all that is wrong.
"""

import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import redis

from stepstream.bus.function import Function
from stepstream.bus.values.ids import entry_ms, run_id
from stepstream.bus.wire import keys
from tests import forks
from tests.chaos.gale_app import PATIENCE_S
from tests.chaos.publishing import Publishing
from tests.chaos.storm import Storm, patterns
from tests.support import journal

CLAIMS = ("lost", "doubled", "ended twice", "begun after its memo", "stuck", "left behind", "not listed", "wrong")
ENDED = ("completed", "failed", "cancelled", "skipped")
STATUSES = ("queued", "running", "waiting", *ENDED)
STANDING = (
    keys.workers,
    keys.app_changes,
    keys.control_changes,
    keys.events,
    keys.events_workers,
    keys.events_served,
    keys.function_workers,
    keys.queue,
    keys.ends,
    keys.runs,
)
"""What may be there without an expiry beside what docs/keys.md calls permanent: streams, leases and the index of runs.

Their contents are looked at: no entry in hand or to come, no turn, no end to be told, no member without its run.
"""
Runs = dict[str, dict[str, str]]


class Watch:
    """Looks now and then at runs that have ended: what is seen once must be there, unchanged, at the end."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, str], tuple[str, str, str]] = {}

    def look(self, store: "redis.Redis", slug: str) -> None:
        for status in ("completed", "failed", "cancelled"):
            runs: list[str] = store.zrange(keys.runs(slug, status), 0, 20, desc=True)
            pipe = store.pipeline(transaction=False)
            for run in runs:
                pipe.hmget(keys.run(slug, run), "status", "ended", "output")
            for run, found in zip(runs, pipe.execute(), strict=True):
                self.seen.setdefault((slug, run), tuple(str(one) for one in found))  # type: ignore[arg-type]


def is_over(store: "redis.Redis", slugs: Iterable[str]) -> bool:
    """Whether nothing is to be done any more: no run that has not ended, no entry in hand or to come, no turn."""
    for slug in slugs:
        if any(store.zcard(keys.runs(slug, status)) for status in STATUSES[:3]):
            return False
        if store.exists(keys.timers(slug)) or store.xlen(keys.queue(slug)) or store.xlen(keys.ends(slug)):
            return False
    return not any(unfinished(store))


def unfinished(store: "redis.Redis") -> Iterable[str]:
    """Yield the groups that have entries in hand or to come."""
    for key in store.scan_iter(match="bus:*", count=5_000, _type="stream"):
        for group in store.xinfo_groups(key):
            last = store.xinfo_stream(key)["last-generated-id"]
            behind = store.xrange(key, f"({group['last-delivered-id']}", last, count=1)
            if group["pending"] or behind:
                yield f"{key} {group['name']}: {group['pending']} in hand, {'some' if behind else 'none'} to come"


def checked(url: str, *, repair: bool = False) -> tuple[int, str]:
    """Run `bus check`; return its exit code and what it says."""
    words = ["check", *(["--repair"] if repair else [])]
    done = forks.bus(*words, env={**os.environ, "BUS_REDIS_URL": url, "BUS_LEASE": "0.6"})
    return done.returncode, done.stdout + done.stderr


class Verdict:
    """What speaks against each claim; a subclass says what its functions should have done."""

    EXPECTED: ClassVar[Mapping[str, str]] = {}
    SAYS: ClassVar[Mapping[str, Any]] = {}
    """How the runs of a function may end, and what they return then."""
    SENT: Sequence[str] = ()
    """Events that start no function."""

    def __init__(self, storm: Storm, published: Publishing, watch: Watch, functions: Iterable[Function]) -> None:
        self.against: dict[str, list[str]] = {claim: [] for claim in CLAIMS}
        self.counts: Counter[str] = Counter()
        self._storm = storm
        self._store = storm.store
        self._published = published
        self._watch = watch
        self._functions = tuple(functions)
        self._known: list[tuple[str, Any]] = patterns([make for make, _ in keys.ALL])
        self._there: list[str] = sorted(self._store.scan_iter(match="bus:*", count=5_000))
        self._runs: dict[str, Runs] = self._all_runs()
        self._entries = self._all_entries()

    def reach(self) -> None:
        """Look at everything."""
        self._events()
        self._one_run_for_each_event()
        self._outcomes()
        self._relations()
        self._memos()
        self._left_behind()
        self._index()
        for (slug, run), seen in self._watch.seen.items():
            kept = self._runs[slug].get(run, {})
            if seen != tuple(str(kept.get(name)) for name in ("status", "ended", "output")):
                self._say("ended twice", f"{slug} {run} was {seen}, is {kept}")
        self.counts["ends seen twice"] = len(self._watch.seen)

    def _say(self, claim: str, what: str) -> None:
        self.against[claim].append(what)

    def _all_runs(self) -> dict[str, Runs]:
        """Read every run there is a hash of, listed or not."""
        found: dict[str, Runs] = {}
        for function in self._functions:
            begins = keys.run(function.slug, "")
            runs = [key.removeprefix(begins) for key in self._there if key.startswith(begins)]
            pipe = self._store.pipeline(transaction=False)
            for run in runs:
                pipe.hgetall(keys.run(function.slug, run))
            found[function.slug] = dict(zip(runs, pipe.execute(), strict=True))
        return found

    def _all_entries(self) -> dict[str, list[tuple[str, str]]]:
        """Return (entry, event id) of every event that is stored, by name."""
        names = {trigger.name for function in self._functions for trigger in function.triggers}
        return {
            name: [(entry, fields["id"]) for entry, fields in self._store.xrange(keys.events(name))]
            for name in names | {*self.SENT}
        }

    # -- what was published, and its runs ------------------------------------------------------------------------------

    def _events(self) -> None:
        stored = {name: Counter(id for _, id in entries) for name, entries in self._entries.items()}
        for name, ids in stored.items():
            self.counts["events"] += len(ids)
            for id, times in ids.items():
                if times > 1:
                    self._say("doubled", f"event {id} of {name} is stored {times} times")
        for (name, id), how in self._published.answered.items():
            self.counts[f"answered {how}"] += 1
            if id not in stored[name]:
                self._say("lost", f"event {id} of {name} was answered by {how}")
        self.counts["unanswered"] = len(self._published.unanswered)

    def _one_run_for_each_event(self) -> None:
        for function in self._functions:
            wanted: set[str] = set()
            for trigger in (one for one in function.triggers if one.condition is None):
                for entry, _ in self._entries[trigger.name]:
                    wanted.add(run_id(function.slug, "event", f"{trigger.name}|{entry}", entry_ms(entry)))
            has_conditions = any(trigger.condition is not None for trigger in function.triggers)
            runs = self._runs[function.slug]
            self.counts["runs"] += len(runs)
            for run in wanted - runs.keys():
                self._say("lost", f"{function.slug} has no run {run}")
            for run, kept in runs.items():
                if kept.get("source") == "event" and run not in wanted and not has_conditions:
                    self._say("doubled", f"{function.slug} {run} is of no event")

    # -- how they ended ------------------------------------------------------------------------------------------------

    def _outcomes(self) -> None:
        for slug, runs in self._runs.items():
            for run, kept in runs.items():
                status = kept.get("status", "")
                self.counts[status] += 1
                if status not in ENDED:
                    self._say("stuck", f"{slug} {run}: {kept}")
                elif status not in self.EXPECTED[slug].split() and not self._is_cut(slug, kept):
                    self._say("wrong", f"{slug} {run} is {status}: {kept.get('error')}")
                elif status == "completed" and slug in self.SAYS and json.loads(kept["output"]) != self.SAYS[slug]:
                    self._say("wrong", f"{slug} {run} returned {kept['output']}")
        for group in unfinished(self._store):
            self._say("stuck", group)

    def _is_cut(self, slug: str, kept: dict[str, str]) -> bool:
        """Whether a run may have ended otherwise than expected because a kill took the one attempt it had."""
        return False

    def _relations(self) -> None:
        """Say what speaks against how runs of several functions belong together."""

    def _memos(self) -> None:
        begun: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        for line in journal(self._storm.journal):
            slug, _, run = line["run"].partition("|")
            begun[slug, run].append(line)
        for slug, runs in self._runs.items():
            pipe = self._store.pipeline(transaction=False)
            for run in runs:
                pipe.hgetall(keys.steps(slug, run))
            for run, stored in zip(runs, pipe.execute(), strict=True):
                memos = {step: json.loads(memo) for step, memo in stored.items()}
                if sorted(memo["n"] for memo in memos.values()) != list(range(1, len(memos) + 1)):
                    self._say("wrong", f"{slug} {run} has memos {memos}")
                self.counts["memos"] += len(memos)
                for line in (one for one in begun[slug, run] if one["what"] == "body"):
                    self.counts["bodies"] += 1
                    step, at = line["step"], line["at"]
                    late = step in memos and at > memos[step]["ended"] + 1
                    if late and self._is_stray(slug, line, begun[slug, run]):
                        self.counts["stray bodies"] += 1
                    elif late:
                        over = at - memos[step]["ended"]
                        self._say("begun after its memo", f"{slug} {run} {line}, {over:.0f} ms after")

    def _is_stray(self, slug: str, line: dict[str, Any], of_run: list[dict[str, Any]]) -> bool:
        """Whether a body that began after its memo is one of those that nobody can hold back."""
        return self._storm.is_stray(line["pid"], line["at"])

    # -- what is left --------------------------------------------------------------------------------------------------

    def _left_behind(self) -> None:
        permanent = {make.__name__ for make, _ in keys.ALL if "Permanent." in (make.__doc__ or "")}
        standing = permanent | {make.__name__ for make in STANDING}
        for key in self._there:
            kinds = {kind for kind, pattern in self._known if pattern.fullmatch(key)}
            if not kinds:
                self._say("left behind", f"{key}: keys.py does not know it")
            elif not kinds & standing and self._store.ttl(key) == -1 and not self._goes(key):
                self._say("left behind", f"{key}: {self._shown(key)}")

    def _goes(self, key: str) -> bool:
        """Whether it goes by itself: limits that refused somebody, at the next sweep; what a worker that died between an
        answer and its next command has not forgotten of waits, at their deadline, or when somebody needs the place."""
        if key in {keys.full(function.slug) for function in self._functions}:
            return True
        latest = (time.time() + PATIENCE_S) * 1_000
        if key == keys.waited():
            return all(deadline < latest for _, deadline in self._store.zrange(key, 0, -1, withscores=True))
        for name in self._entries:
            if key == keys.waits(name):
                return all(int(word.split("|")[-2]) < latest for word in self._store.zrange(key, 0, -1))
            if key == keys.waits_if(name):
                return all(int(word.split("|")[-1]) < latest for word in self._store.hkeys(key))
        return False

    def _shown(self, key: str) -> str:
        kind = self._store.type(key)
        how = {"zset": ("ZRANGE", 0, 4), "hash": ("HGETALL",), "string": ("GET",), "set": ("SRANDMEMBER", 5)}
        return f"{kind} {self._store.execute_command(*how[kind][:1], key, *how[kind][1:])}" if kind in how else kind

    def _index(self) -> None:
        for slug, runs in self._runs.items():
            listed = {status: {*self._store.zrange(keys.runs(slug, status), 0, -1)} for status in STATUSES}
            for status, members in listed.items():
                for run in members:
                    if run not in runs and self._store.exists(keys.run(slug, run)):
                        continue  # a tick of a schedule, since the runs were read
                    if runs.get(run, {}).get("status") != status:
                        is_now = runs[run]["status"] if run in runs else "gone"
                        self._say("left behind", f"{slug} {run} is listed as {status} and is {is_now}")
            for run, kept in runs.items():
                if run not in listed.get(kept.get("status", ""), ()):
                    self._say("not listed", f"{slug} {run} is {kept.get('status')}")


def output_of(kept: dict[str, str]) -> Any:
    return json.loads(kept["output"]) if "output" in kept else None
