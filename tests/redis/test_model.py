"""The life of a run against a model of docs/state-machine.md: any interleaving of two workers, redeliveries, lost replies, lost leases,
timers, values from outside, cancels, and a server that goes back in time.

The model below is docs/state-machine.md in Python. After each call the answer and the whole state in Redis must be the
model's. MODEL_EXAMPLES=10000 (make model) tries more; .ci/run tries 100 beside the tests that kill processes.
"""

import copy
import os
import uuid
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from stepstream.bus.values.ids import owner_letters, run_id
from stepstream.bus.wire import keys
from tests.scripts import all_scripts

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "15"))
EVENT = "event|a|1-0"
STATUSES = ("queued", "running", "waiting", "completed", "failed", "cancelled", "skipped")
ENDED = {"completed", "failed", "cancelled", "skipped"}
workers = st.sampled_from(["A.0", "B.0"])
step_ids = st.sampled_from(["a", "b", "c"])
picks = st.integers(0, 1_000)


class Model:
    """One run, as the design has it."""

    def __init__(self) -> None:
        self.run: dict[str, Any] | None = None
        self.memos: dict[str, int] = {}
        self.open: dict[str, str] = {}
        self.woken: dict[int, str] = {}
        """The memos that were resolved while a turn ran, by `n`."""
        self.timers: dict[int, int] = {}
        self.queue: list[tuple[str, int]] = []

    def owner(self, handle: dict[str, Any]) -> str:
        if self.run is None:
            return "absent"
        if self.run["status"] in ENDED or self.run["turn"] > handle["turn"]:
            return "over"
        mine = (
            self.run["status"] == "running"
            and self.run["fence"] == handle["fence"]
            and self.run["turn"] == handle["turn"]
        )
        return "mine" if mine else "lost"

    def start(self, entry: str, turn: int, owner: str, me: str, fence: str, suspects: int) -> tuple[str, int]:
        run = self.run
        if run is None:
            if entry != EVENT:
                return "gone", 0
            self.run = {
                "status": "running",
                "turn": 1,
                "entry": entry,
                "fence": fence,
                "worker": me,
                "crashes": 0,
                "wake": 0,
                "cancel": False,
            }
            return "go", 1
        if run["status"] in ENDED:
            return "ended", 0
        if run["cancel"]:
            self.end("cancelled")
            return "cancelled", 0
        if turn < run["turn"]:
            return "stale", 0
        if turn == run["turn"] and run["status"] != "waiting" and run["entry"] != entry:
            return "elsewhere", 0
        if owner and owner == run["worker"] and run["status"] == "running":
            run["crashes"] += 1
            run["worker"] = ""
        if run["crashes"] >= 5:
            self.end("failed")
            return "crashed", 0
        if run["crashes"] >= 2 and suspects < 1:
            return "suspect", 0
        run.update(status="running", fence=fence, worker=me, entry=entry)
        return "go", run["turn"]

    def end(self, status: str) -> None:
        assert self.run is not None
        self.run.update(status=status, entry="")
        self.open = {}

    def news(self, known: int) -> set[str]:
        return {step for n, step in self.woken.items() if n > known}

    def wake_up(self, entry: str) -> None:
        assert self.run is not None
        self.queue.append((entry, self.run["turn"]))
        self.run.update(status="queued", entry=entry)


class Spine(RuleBasedStateMachine):
    """Calls the scripts on a real server, and the model beside."""

    url = ""

    @initialize()
    def begin(self) -> None:
        self.client = redis.Redis.from_url(self.url, decode_responses=True)
        self.raw = redis.Redis.from_url(self.url)
        self.slug = f"m-{uuid.uuid4().hex[:12]}"
        self.run = run_id(self.slug, "event", "a|1-0", 1)
        self.stream, self.leases = keys.events("a"), keys.events_workers("a")
        self.client.delete(self.stream, self.leases)
        self.client.xadd(self.stream, {"id": "e", "name": "a", "data": "{}"}, id="1-0")
        self.client.xgroup_create(self.stream, self.slug, "0")
        self.model = Model()
        self.handles: list[dict[str, Any]] = []
        self.entries: list[tuple[str, int]] = [(EVENT, 1), ("queue|9-9", 2)]
        self.seen: dict[str, tuple[int, str]] = {}
        self.now = 1_000_000
        self.fences = 0
        self.saved: tuple[Model, dict[str, bytes], dict[str, tuple[int, str]]] | None = None

    def teardown(self) -> None:
        if hasattr(self, "client"):
            for key in self.client.keys(f"bus:fn:{{{self.slug}}}:*"):
                self.client.delete(key)
            self.client.delete(self.stream, self.leases)
            self.client.close()
            self.raw.close()

    def script(self, name: str, *arguments: Any, more_keys: tuple[str, ...] = ()) -> Any:
        script = all_scripts()[name]
        names = (keys.function(self.slug), *more_keys)
        try:
            return self.client.evalsha(script.sha, len(names), *names, self.now, *arguments)
        except redis.exceptions.NoScriptError:
            return self.client.eval(script.text, len(names), *names, self.now, *arguments)

    def handle(self, pick: int) -> dict[str, Any]:
        return self.handles[pick % len(self.handles)]

    # -- what workers do ---------------------------------------------------------------------------------------------

    @rule(pick=picks, me=workers, owner=st.sampled_from(["", "A.0", "B.0"]), suspects=st.integers(0, 1))
    def start(self, pick: int, me: str, owner: str, suspects: int) -> None:
        """Any entry there ever was is delivered to any worker: first, again, or claimed from the other."""
        entry, turn = self.entries[pick % len(self.entries)]
        self.fences += 1
        fence = f"f{self.fences}"
        event = '{"id":"e"}' if entry == EVENT else ""
        owner = "" if owner == me else owner
        answer = self.script(
            "run_start",
            "code",
            60_000,
            suspects,
            5,
            "",
            0,
            0,
            self.run,
            turn,
            entry,
            owner,
            me,
            fence,
            event,
            "event",
            1,
            "",
            0,
            "",
            "",
        )[0]
        word, its_turn = self.model.start(entry, turn, owner, me, fence, suspects)
        assert answer[0] == word
        if word == "go":
            assert int(answer[1]) == its_turn
            if len(answer) > 3:
                assert set(answer[7][::2]) == set(self.model.memos), "start answers with all memos"
            known = max(self.model.memos.values(), default=0)
            self.handles.append({"fence": fence, "turn": its_turn, "known": known})

    @rule(me=workers, leased=st.booleans())
    def arrive(self, me: str, leased: bool) -> None:
        """The event is read by an idle worker, now or once more, whose start is behind the read."""
        self.fences += 1
        fence = f"f{self.fences}"
        self.client.xgroup_setid(self.stream, self.slug, "0")
        self.client.xreadgroup(self.slug, me, {self.stream: ">"}, count=1)
        self.client.zadd(self.leases, {me: self.now + (1 if leased else -1)})
        arguments = (self.slug, me, "0-0", "a", fence, "code", owner_letters(self.slug))
        answer = self.script("run_start_eagerly", *arguments, more_keys=(self.stream, self.leases))
        if not leased or self.model.run is not None:
            assert answer == []
            return
        assert answer[:3] == ["1-0", self.run, '{"id":"e","name":"a","data":{},"ts":1}']
        assert self.model.start(EVENT, 1, "", me, fence, 0) == ("go", 1)
        self.handles.append({"fence": fence, "turn": 1, "known": 0})

    @precondition(lambda self: self.handles)
    @rule(pick=picks, step=step_ids, value=st.integers(0, 9), hears=st.booleans())
    def save(self, pick: int, step: str, value: int, hears: bool) -> None:
        """A worker, living or not, saves a step; with `hears` it learns what came from outside."""
        handle = self.handle(pick)
        answer = self.script(
            "run_save",
            1000,
            10**8,
            self.run,
            handle["fence"],
            handle["turn"],
            step,
            '"kind":"run"',
            0,
            f'"data":{value}',
            1,
            handle["known"],
        )[0]
        word = self.model.owner(handle)
        if word == "mine" and step in self.model.memos:
            word = "there"
        assert answer[0] == word
        if word == "mine":
            n = len(self.model.memos) + 1
            assert answer[1] == n
            assert self.model.run is not None
            news = self.model.news(handle["known"])
            self.model.memos[step] = n
            self.model.open.pop(step, None)
            self.model.run["crashes"] = 0
            assert set(answer[3][::2]) == news
            if hears:
                handle["known"] = n

    @precondition(lambda self: self.handles)
    @rule(pick=picks, step=step_ids, delay=st.integers(0, 500))
    def note(self, pick: int, step: str, delay: int) -> None:
        """A sleep is noted; noted again it keeps its due; one that has its value is not open any more."""
        handle = self.handle(pick)
        answer = self.script(
            "run_open",
            self.run,
            handle["fence"],
            handle["turn"],
            step,
            "keep",
            f"+{delay}",
            '"kind":"sleep"',
            "-0",
            "",
            "",
            "",
        )
        word = self.model.owner(handle)
        if word == "mine" and step in self.model.open:
            assert answer[0] == "there"
            assert answer[1] == self.model.open[step]
        elif word == "mine":
            due = self.now + delay
            assert (answer[0], int(answer[1])) == ("mine", due)
            if step in self.model.memos:  # it is not open any more
                return
            self.model.open[step] = f'{{"since":{self.now},"due":{due},"kind":"sleep"}}'
        else:
            assert answer[0] == word

    @precondition(lambda self: self.handles)
    @rule(pick=picks, delay=st.integers(0, 500), failed=st.booleans())
    def park(self, pick: int, delay: int, failed: bool) -> None:
        """A turn ends; its repeat after a lost reply is `over`."""
        handle = self.handle(pick)
        extra = (1, '{"name":"E","message":""}', "") if failed else ("", "", "")
        answer = self.script(
            "run_suspend", self.run, handle["fence"], handle["turn"], handle["known"], f"+{delay}", *extra
        )
        word = self.model.owner(handle)
        run = self.model.run
        if word == "mine" and run is not None and run["cancel"]:
            assert answer[0] == "cancel"
            return
        if word == "mine" and run is not None and run["wake"] > handle["known"] and not failed:
            assert answer[0] == "wake"
            assert set(answer[1][::2]) == self.model.news(handle["known"])
            handle["known"] = max(self.model.woken)
            return
        assert answer[0] == word
        if word == "mine" and run is not None:
            run.update(status="waiting", turn=run["turn"] + 1, entry="")
            self.model.timers[run["turn"]] = self.now + delay

    @precondition(lambda self: self.handles)
    @rule(pick=picks, status=st.sampled_from(["completed", "failed"]))
    def end(self, pick: int, status: str) -> None:
        """A turn ends the run, once."""
        handle = self.handle(pick)
        answer = self.script(
            "run_end", 60_000, "", self.run, handle["fence"], handle["turn"], status, "output", "1", "steps open", ""
        )[0]
        word = self.model.owner(handle)
        assert answer == word
        if word == "mine":
            self.model.end(status)

    # -- what comes from outside -------------------------------------------------------------------------------------

    @rule(step=step_ids)
    def resolve(self, step: str) -> None:
        """A value for a step."""
        answer = self.script("run_resolve", self.run, step, '"kind":"event"', '"data":7')
        run = self.model.run
        if run is None or run["status"] in ENDED:
            assert answer == "gone"
        elif step in self.model.memos:
            assert answer == "there"
        else:
            assert answer == run["status"]
            n = self.model.memos[step] = len(self.model.memos) + 1
            self.model.open.pop(step, None)
            if run["status"] == "running":
                run["wake"] = n
                self.model.woken[n] = step
            if run["status"] == "waiting":
                self.model.timers.pop(run["turn"], None)
                self._queued()

    @rule(ms=st.integers(0, 600))
    def time_passes(self, ms: int) -> None:
        """The clock goes on, and the timers are fired by somebody."""
        self.now += ms
        added, looked_at, _, bad = self.script("timers_fire", 100)
        due = [turn for turn, at in self.model.timers.items() if at <= self.now]
        run = self.model.run
        wakes = [turn for turn in due if run is not None and run["status"] == "waiting" and run["turn"] == turn]
        assert (added, looked_at, bad) == (len(wakes), len(due), [])
        for turn in due:
            del self.model.timers[turn]
        if wakes:
            self._queued()

    def _queued(self) -> None:
        entry = self.client.hget(keys.run(self.slug, self.run), "entry") or ""
        assert entry.startswith("queue|")
        self.model.wake_up(entry)
        self.entries.append(self.model.queue[-1])

    @rule()
    def cancel(self) -> None:
        """Somebody cancels: what waits or is queued ends at once, what runs is asked."""
        why = '{"name":"cancelled","message":""}'
        answer = self.script("run_cancel", 60_000, why, self.run, "", "", "", 0, "")[0]
        run = self.model.run
        if run is None:
            assert answer == "gone"
        elif run["status"] in ENDED:
            assert answer == "ended"
        elif run["status"] == "running":
            assert answer == "asked"
            run["cancel"] = True
        else:
            assert answer == "cancelled"
            self.model.timers.pop(run["turn"], None) if run["status"] == "waiting" else None
            self.model.end("cancelled")

    @rule()
    def snapshot(self) -> None:
        """What a replica has."""
        dumps = {key: self._dump(key) for key in self.client.keys(f"bus:fn:{{{self.slug}}}:*")}
        self.saved = (copy.deepcopy(self.model), dumps, dict(self.seen))

    @precondition(lambda self: self.saved is not None)
    @rule()
    def failover(self) -> None:
        """The replica takes over: the run goes back in time, workers and their handles do not."""
        assert self.saved is not None
        model, dumps, seen = self.saved
        for key in self.client.keys(f"bus:fn:{{{self.slug}}}:*"):
            self.client.delete(key)
        for key, dump in dumps.items():
            self.raw.restore(key, 0, dump)
        self.model = copy.deepcopy(model)
        self.seen = dict(seen)

    def _dump(self, key: str) -> bytes:
        return self.raw.dump(key)

    # -- what must always hold ---------------------------------------------------------------------------------------

    @invariant()
    def redis_is_as_the_model_says(self) -> None:
        if not hasattr(self, "model"):
            return
        run = self.model.run
        pipe = self.client.pipeline(transaction=False)
        pipe.hgetall(keys.run(self.slug, self.run))
        pipe.zrange(keys.timers(self.slug), 0, -1, withscores=True)
        pipe.hkeys(keys.open_steps(self.slug, self.run))
        for status in STATUSES:
            pipe.zscore(keys.runs(self.slug, status), self.run)
        stored, timers, opened, *places = pipe.execute()
        if run is None:
            assert not stored
            return
        for field in ("status", "entry", "fence"):
            # Who held a run that has ended is not kept.
            assert stored.get(field, "") == ("" if run["status"] in ENDED and field != "status" else run[field]), field
        assert (int(stored["turn"]), int(stored.get("crashes", 0)), int(stored.get("wake", 0))) == (
            run["turn"],
            run["crashes"],
            run["wake"],
        )
        listed = [status for status, place in zip(STATUSES, places, strict=True) if place is not None]
        assert listed == [run["status"]]
        assert {int(member.rpartition(":")[2]): int(at) for member, at in timers} == self.model.timers
        assert set(opened) == self.model.open.keys()

    @invariant()
    def a_memo_never_changes(self) -> None:
        """One result a step, numbered without gaps, the same for ever (in one history of the server)."""
        if not hasattr(self, "model"):
            return
        memos = self.client.hgetall(keys.steps(self.slug, self.run))
        assert memos.keys() == self.model.memos.keys()
        assert sorted(self.model.memos.values()) == list(range(1, len(memos) + 1))
        for step, memo in memos.items():
            assert memo.startswith(f'{{"n":{self.model.memos[step]},')
            kept = self.seen.setdefault(step, (self.model.memos[step], memo))
            assert kept[1] == memo, "a memo has changed"


@pytest.mark.filterwarnings("default")
def test_any_interleaving_answers_and_writes_what_the_model_says(url: str, request: pytest.FixtureRequest) -> None:
    Spine.url = url
    # The scripts are the same on the second server: few tries tell whether it differs.
    is_second_server = "redis7" in request.node.name
    run_state_machine_as_test(
        Spine,
        settings=settings(
            max_examples=max(10, EXAMPLES // 10) if is_second_server else EXAMPLES,
            stateful_step_count=40,
            deadline=None,
            derandomize=EXAMPLES <= 200,  # the suite tries the same ones each time; make model looks for new ones
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
