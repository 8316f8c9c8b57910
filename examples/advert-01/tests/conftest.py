"""A folder for each test, in which the outside world is told what to do."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file that tells the outside world what to do."""
    for variable in ("ADVERT_ENV", "ADVERT_SIGNING_KEY", "BUS_EVENT_KEYS"):
        monkeypatch.delenv(variable, raising=False)
    path = tmp_path / "stand-ins.json"
    monkeypatch.setenv("STAND_INS", str(path))
    return path
