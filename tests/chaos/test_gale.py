"""Everything fails at once, under functions of every kind and publishers that go on: then the history is checked.

Worker kills, stops past the lease, server kills, error words, swapped roles, killed `bus serve`. A quarter of a minute in CI; `make storm` ten minutes. CHAOS_SEED repeats one.
"""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stepstream.bus.wire import keys
from tests.chaos.gale_app import NAMES
from tests.chaos.gale_verdict import FUNCTIONS, GaleVerdict
from tests.chaos.publishing import Publishing
from tests.chaos.storm import SCALE, SEED, WORKERS, Storm, raging, within
from tests.chaos.verdict import Watch, checked, is_over

pytestmark = pytest.mark.chaos
SECONDS = 5.0 if SCALE <= 1 else 30 * SCALE

FAULTS = {"kill": 40, "stop past the lease": 20, "error words": 20, "role swap": 8}
HOME_WITHIN_S = 150
CHECK_EVERY_S = 20

KEPT: dict[Callable[..., str], str] = {
    keys.events: "holds the events themselves",
    keys.queue: "may hold calls, failures and batches that are about to begin: their events are nowhere else",
    keys.functions: "says which calls are refused and who hears of ends: each worker writes it again, within a minute",
    keys.triggers: "says since when groups see events, and who hears of ends: each worker writes it again, within a minute",
    keys.run: "is the run",
    keys.steps: "holds what was done, once and for all",
    keys.open_steps: "holds since when steps wait, and what they called: a call that is made anew is a second run",
    keys.ends: "holds ends that are about to be told",
    keys.buffer: "holds events that will be one run",
    keys.seen: "nothing tells that an id was seen: an event that is repeated meanwhile is stored twice",
}
"""Whose keys are not deleted: what they hold exists nowhere else, and docs/keys.md says so.

Of limits (`places`, `rate`, `single`, `limit`) nothing is claimed here but that nobody is lost by them.
"""
DELETABLE = [make for make, _ in keys.ALL if make not in KEPT]


def test_nothing_is_lost_doubled_or_left_behind_whatever_fails(tmp_path: Path) -> None:
    with raging(tmp_path, "gale", faults=FAULTS) as storm:
        _blow(storm, SECONDS)


def test_keys_that_are_deleted_meanwhile_come_back_by_themselves_or_by_bus_check(tmp_path: Path) -> None:
    with raging(tmp_path, "gale", faults={**FAULTS, "key deletion": 30}, deletable=DELETABLE) as storm:
        _blow(storm, SECONDS, repairs=True)


def _blow(storm: Storm, seconds: float, *, repairs: bool = False) -> None:
    storm.await_workers()
    published, watch, slugs = Publishing(storm, rate=40, names=NAMES), Watch(), [one.slug for one in FUNCTIONS]
    try:
        began = checked_at = time.monotonic()
        while time.monotonic() < began + seconds:
            storm.strike()
            if storm.strikes % 40 == 20:
                published.kill_site()
            watch.look(storm.store, storm.random.choice(slugs))
            if repairs and time.monotonic() > checked_at + CHECK_EVERY_S:  # as an operator's schedule does
                _repair(storm)
                checked_at = time.monotonic()
            time.sleep(storm.random.uniform(0.05, 0.3))
        storm.calm()
        published.stop()
        calm = time.monotonic()
        while not within(5, lambda: is_over(storm.store, slugs)) and time.monotonic() < calm + HOME_WITHIN_S:
            if repairs:
                _repair(storm)
        home = time.monotonic() - calm
        time.sleep(0.5)
        if repairs:
            _repair(storm)
        verdict = GaleVerdict(storm, published, watch, FUNCTIONS)
        verdict.reach()
        code, said = checked(storm.server.url)
    finally:
        published.close()
    against = {claim: len(found) for claim, found in verdict.against.items()}
    faults = {**storm.done, **published.done, **(storm.proxy.told() if storm.proxy else {})}
    print(f"\nseed {SEED}, {seconds:.0f} s: {dict(verdict.counts)}; faults {faults}; home after {home:.1f} s; ", end="")
    print(f"against each claim {against}, bus check exits {code}")
    speaks = [f"{claim}: {what}" for claim, found in verdict.against.items() for what in found[:20]]
    assert not speaks, "\n".join(speaks)
    assert not published.broken
    assert code == 0, said
    assert len(storm.workers) == WORKERS


def _repair(storm: Storm) -> None:
    code, told = checked(storm.server.url, repair=True)
    storm.done["bus check --repair"] += 1
    storm.repairs.append(f"{code}: {told}")
