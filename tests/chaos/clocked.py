"""A server whose clock can be set while it runs, by Debian's libfaketime."""

import os
from pathlib import Path

from tests.support import ValkeyProcess

LIBRARY = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)


class ClockedServer(ValkeyProcess):
    """A Valkey; set(3600) puts its clock an hour ahead of this machine's. Its steady clock goes on."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set(0)
        super().__init__(
            folder,
            environ={
                **os.environ,
                "LD_PRELOAD": str(LIBRARY),
                "FAKETIME_TIMESTAMP_FILE": str(self._file),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            },
        )

    def set(self, ahead_s: float) -> None:
        """Set its clock, at once."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{ahead_s:+f}s")
        new.replace(self._file)
