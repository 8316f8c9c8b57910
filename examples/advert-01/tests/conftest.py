"""Each test begins in development, without keys."""

import pytest


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what the developer's own environment says."""
    for variable in ("ADVERT_ENV", "ADVERT_SIGNING_KEY", "BUS_EVENT_KEYS"):
        monkeypatch.delenv(variable, raising=False)
