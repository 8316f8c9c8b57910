"""StoredRun: the record of a run as the audit looks at it."""

from stepstream.checkpoint.run.record import ENDED, Record


class StoredRun(Record):
    """What is looked at of a run's record, as it is stored: somebody may have written it by hand."""

    status: str = ""
    queued: str = "0"
    cancels: str = ""
    turn: str = ""
    entry: str = ""
    holds: str = ""
    started: str = ""
    attempt: str = ""
    again: str = ""

    @property
    def lives(self) -> bool:
        """Whether it is there and has not ended."""
        return self.status not in {"", *ENDED}

    @property
    def is_called_anew(self) -> bool:
        """Whether it waits for its code to be called from the first line: it failed, or was not reached."""
        return self.again == self.turn or self.attempt not in {"", "0"}
