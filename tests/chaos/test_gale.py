"""Everything fails at once, under functions of every kind and publishers that go on: then the history is checked.

Worker kills, stops past the lease, server kills, error words, swapped roles, killed `bus serve`. A quarter of a minute in CI; `make storm` ten minutes. CHAOS_SEED repeats one.
"""

import time
from pathlib import Path

import pytest

from tests.chaos.gale_app import app
from tests.chaos.publishing import Publishing
from tests.chaos.storm import SCALE, SEED, WORKERS, Storm, raging, within
from tests.chaos.verdict import Verdict, Watch, checked, is_over

pytestmark = pytest.mark.chaos
SECONDS = 8.0 if SCALE <= 1 else 30 * SCALE

FAULTS = {"kill": 40, "stop past the lease": 20, "error words": 20, "role swap": 8}
HOME_WITHIN_S = 90


def test_nothing_is_lost_doubled_or_left_behind_whatever_fails(tmp_path: Path) -> None:
    with raging(tmp_path, "gale", faults=FAULTS) as storm:
        _blow(storm)


def _blow(storm: Storm) -> None:
    storm.await_workers()
    published, watch, slugs = Publishing(storm, rate=40), Watch(), [one.slug for one in app.functions.values()]
    try:
        began = time.monotonic()
        while time.monotonic() < began + SECONDS:
            storm.strike()
            if storm.strikes % 40 == 20:
                published.kill_site()
            watch.look(storm.store, storm.random.choice(slugs))
            time.sleep(storm.random.uniform(0.05, 0.3))
        storm.calm()
        published.stop()
        calm = time.monotonic()
        within(HOME_WITHIN_S, lambda: is_over(storm.store))
        home = time.monotonic() - calm
        time.sleep(0.5)
        verdict = Verdict(storm, published, watch)
        verdict.reach()
        code, told = checked(storm.server.url)
    finally:
        published.close()
    against = {claim: len(found) for claim, found in verdict.against.items()}
    faults = {**storm.done, **published.done, **(storm.proxy.told() if storm.proxy else {})}
    print(f"\nseed {SEED}, {SECONDS:.0f} s: {dict(verdict.counts)}; faults {faults}; home after {home:.1f} s; ", end="")
    print(f"against each claim {against}, bus check exits {code}")
    for claim, found in verdict.against.items():
        assert not found, f"{claim}: {len(found)}\n" + "\n".join(found[:20])
    assert not published.broken
    assert code == 0, told
    assert len(storm.workers) == WORKERS
