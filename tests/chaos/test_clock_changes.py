"""Two hundred schedules (CI: five a zone) at every kind of clock change of thirty zones, against the oracle of tests/unit."""

import os

import pytest

from tests.unit.test_clock_changes import ZONES, changes, compare, schedules

pytestmark = pytest.mark.chaos
IS_WHOLE = os.environ.get("CHAOS_TIMES", "1") != "1"


@pytest.mark.parametrize("zone", ZONES)
def test_schedules_keep_the_rule_of_vixie_cron_at_every_kind_of_change(zone: str) -> None:
    chosen = schedules(200) if IS_WHOLE else schedules(20)[ZONES.index(zone) % 4 :: 4]
    for change in changes(zone):
        for expression in chosen:
            compare(expression, zone, change)
