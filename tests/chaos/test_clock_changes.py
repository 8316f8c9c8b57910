"""Two hundred schedules (CI: twenty) at every kind of clock change of thirty zones, against the oracle of tests/unit."""

import os

import pytest

from tests.unit.test_clock_changes import ZONES, changes, compare, schedules

pytestmark = pytest.mark.chaos
SCHEDULES = 20 if os.environ.get("CHAOS_TIMES", "1") == "1" else 200


@pytest.mark.parametrize("zone", ZONES)
def test_schedules_keep_the_rule_of_vixie_cron_at_every_kind_of_change(zone: str) -> None:
    for change in changes(zone):
        for expression in schedules(SCHEDULES):
            compare(expression, zone, change)
