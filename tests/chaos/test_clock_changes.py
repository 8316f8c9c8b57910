"""Two hundred schedules at every kind of clock change of thirty zones, against the oracle of tests/unit."""

import pytest

from tests.unit.test_clock_changes import ZONES, changes, compare, schedules

pytestmark = pytest.mark.chaos


@pytest.mark.parametrize("zone", ZONES)
def test_schedules_keep_the_rule_of_vixie_cron_at_every_kind_of_change(zone: str) -> None:
    for change in changes(zone):
        for expression in schedules(200):
            compare(expression, zone, change)
