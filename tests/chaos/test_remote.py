"""Chaos around functions behind HTTP: applications of the official SDKs, `bus serve`, workers and the server are killed.

CHAOS_SCALE=10 makes the storm ten times as long (make storm); CHAOS_SEED repeats one.
"""

import signal
import time
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from stepstream.bus.wire import keys
from tests.chaos.publishing import Publishing
from tests.chaos.remote_storm import FAULTS, NAMES, SDKS, RemoteStorm, RemoteVerdict
from tests.chaos.storm import SCALE, SEED, within
from tests.chaos.verdict import STATUSES, Watch, checked, is_over
from tests.patience import PATIENT_S
from tests.sdk.sdks import missing
from tests.support import journal, until

pytestmark = [
    pytest.mark.chaos,
    *(pytest.mark.skipif(bool(missing(sdk)), reason=missing(sdk) or "installed") for sdk in SDKS.values()),
]
SECONDS = 4.0 * SCALE
MOST_UNDER_WAY = 25
"""No more runs are begun while so many go on: a slow machine does fewer, and no longer."""
ENOUGH = {
    fault: count * SCALE
    for fault, count in {
        "kill": 3, "stop past the lease": 2, "kill of an application": 2, "kill of bus serve": 1, "server kill": 1,
    }.items()
}  # fmt: skip
SLUGS = tuple(RemoteVerdict.EXPECTED)


@pytest.fixture
def storm(tmp_path: Path, request: pytest.FixtureRequest) -> Generator[RemoteStorm]:
    """Applications, `bus serve`, a server, and as many workers as the test asks for."""
    raging = RemoteStorm(tmp_path, **request.param)
    try:
        raging.await_workers()
        yield raging
    finally:
        raging.close()


@pytest.mark.parametrize("storm", [{"workers": 3, "faults": FAULTS, "server_kills": 8}], indirect=True, ids=[""])
def test_nothing_of_functions_behind_http_is_lost_doubled_or_done_again_whatever_is_killed(storm: RemoteStorm) -> None:
    published, watch = Publishing(storm, 10, NAMES, storm.site), Watch()
    try:
        began = time.monotonic()
        while time.monotonic() < began + SECONDS or not storm.has_done(ENOUGH):
            storm.strike()
            watch.look(storm.store, storm.random.choice(SLUGS))
            _bound(storm, published)
            time.sleep(storm.random.uniform(0.1, 0.4))
        _judge(storm, published, watch)
    finally:
        published.close()


@pytest.mark.parametrize("storm", [{"workers": 1}], indirect=True, ids=[""])
def test_applications_that_are_down_for_long_lose_nothing_and_go_on_elsewhere(storm: RemoteStorm) -> None:
    """Runs are called in vain more often than they may be tried; those that may be tried once only begin meanwhile."""
    published, store = Publishing(storm, 10, NAMES, storm.site), storm.store
    try:
        until(lambda: _bound(storm, published) > MOST_UNDER_WAY / 2, "runs are in flight")
        for app in storm.apps.values():
            app.kill()
        published.pauses = True
        _send(storm, "remote/patient")
        for app in storm.apps:
            slug = f"{app}-patient"
            run = max(until(lambda slug=slug: _active(storm, slug), "it has begun"))
            until(lambda slug=slug, run=run: int(store.hget(keys.run(slug, run), "again") or 0) >= 5, "it is long")
            assert "unreachable" in str(store.hget(keys.run(slug, run), "error"))
        for app in storm.apps.values():
            app.start(elsewhere=True)
        _judge(storm, published, Watch())
    finally:
        published.close()


@pytest.mark.parametrize("storm", [{"names": ("js",), "workers": 1}], indirect=True, ids=[""])
def test_what_an_app_still_does_for_a_worker_that_is_past_its_lease_is_refused_and_told(storm: RemoteStorm) -> None:
    slugs = [f"js-gated-{kind}" for kind in ("plain", "saved", "buffered")]
    (stale,) = storm.workers
    _send(storm, "remote/gated")
    _await_each(storm, slugs, step="b", nth=1)
    storm.signal(stale, signal.SIGSTOP)
    storm.workers.append(storm.spawn())
    _await_each(storm, slugs, step="b", nth=2)
    (storm.apps["js"].gates / "1").touch()  # the stale calls go on, and end, while those of the other worker are open
    _await_each(storm, slugs, what="answered", step="step", nth=1)
    storm.signal(stale, signal.SIGCONT)
    _await_lease(storm, stale)
    (storm.apps["js"].gates / "2").touch()
    assert within(PATIENT_S, lambda: is_over(storm.store, SLUGS)), "the runs end"
    for slug in slugs:
        (run,) = storm.store.zrange(keys.runs(slug, "completed"), 0, -1)
        kept = storm.store.hgetall(keys.run(slug, run))
        assert kept["output"] == '["a","b","c"]'
        assert sorted(storm.store.hkeys(keys.steps(slug, run))) == ["a", "b", "c"]
        refused = _lines(storm, what="refused", run=f"|{run}")
        bodies = [f"{line['step']}{line['nth']}" for line in _lines(storm, what="body", run=f"{slug}|{run}")]
        if slug.endswith("buffered"):  # an application that keeps what it has done to itself does it again elsewhere
            assert Counter(bodies)["c2"] == Counter(bodies)["b2"] == 1, bodies
        else:
            assert bodies == ["a1", "b1", "b2", "c2"]
        assert len(refused) == (1 if slug.endswith("saved") else len(refused)), refused
        assert all("not recorded any more" in line["told"] for line in refused)
    code, said = checked(storm.server.url)
    assert code == 0, said


def _active(storm: RemoteStorm, slug: str) -> list[str]:
    """Return a function's runs that have begun and not ended: one that calls in vain waits for most of the time."""
    return [run for status in ("running", "waiting") for run in storm.store.zrange(keys.runs(slug, status), 0, -1)]


def _judge(storm: RemoteStorm, published: Publishing, watch: Watch) -> None:
    """Wait until all is over, and look at what is left."""
    storm.calm()
    published.stop()
    calm = time.monotonic()
    within(2 * PATIENT_S, lambda: is_over(storm.store, SLUGS))
    home = time.monotonic() - calm
    verdict = RemoteVerdict(storm, published, watch)
    verdict.reach()
    code, said = checked(storm.server.url)
    against = {claim: len(found) for claim, found in verdict.against.items()}
    print(f"\nseed {SEED}: {dict(verdict.counts)}; faults {dict(storm.done)}, {dict(published.done)}; ", end="")
    print(f"home after {home:.1f} s; against each claim {against}, bus check exits {code}")
    speaks = [f"{claim}: {what}" for claim, found in verdict.against.items() for what in found[:20]]
    assert not speaks, "\n".join(speaks)
    assert not published.broken
    assert code == 0, said


def _send(storm: RemoteStorm, name: str) -> None:
    storm.store.xadd(keys.events(name), {"id": f"by-hand-{name}", "name": name, "data": '{"n":2}'})
    storm.store.zadd(keys.event_names(), {name: time.time() * 1_000})  # as who publishes does: bus check looks for it


def _lines(storm: RemoteStorm, **having: object) -> list[dict[str, Any]]:
    return [line for line in journal(storm.journal) if having.items() <= line.items()]


def _await_each(storm: RemoteStorm, slugs: list[str], **having: object) -> None:
    """Wait until the journal has such a line of each function."""

    def seen() -> bool:
        return {line["run"].partition("|")[0] for line in _lines(storm, **having)} >= {*slugs}

    until(seen, f"{having} of each")


def _await_lease(storm: RemoteStorm, pid: int) -> None:
    """Wait until a worker has a lease again."""

    def renewed() -> bool:
        leases = storm.store.zrange(keys.workers(), 0, -1, withscores=True)
        return any(f"-{pid}-" in worker and end > time.time() * 1_000 for worker, end in leases)

    until(renewed, f"worker {pid} has its lease again")


def _bound(storm: RemoteStorm, published: Publishing) -> int:
    """Return how many runs are under way; publish nothing more while they are many."""
    looks = storm.store.pipeline(transaction=False)
    for slug in SLUGS:
        for status in STATUSES[:3]:
            looks.zcard(keys.runs(slug, status))
    count = sum(looks.execute())
    published.pauses = count > MOST_UNDER_WAY
    return count
