"""Limits: which threshold each rule has: as people have set it, as the settings say, or its default."""

from stepstream.bus.alerts.rules import Threshold, thresholds
from stepstream.bus.settings import Settings
from stepstream.checkpoint.alerts.kept import Kept


def limits_of(configured: Settings, stands: Kept | None = None) -> dict[str, Threshold]:
    """Return the thresholds that are in force, by name: `waiting`, `waiting:shop-report`."""
    found = thresholds(configured.alert_rules, "BUS_ALERT_RULES")
    return {**found, **stands.set} if stands is not None else found
