"""Who belongs to a run, as lines of its page: caller, children, reruns, members of a batch, who was told."""

from collections.abc import Sequence

import msgspec

from stepstream.checkpoint.read.run.family import Family, Kin

SHOWN = 20


class Relatives(msgspec.Struct, frozen=True):
    """Runs that belong to a run in one way; `more` are not shown."""

    words: str
    runs: tuple[Kin, ...]
    more: int = 0


def relatives(found: Family) -> tuple[Relatives, ...]:
    """Return the runs that belong to a run, by how they do."""
    several = (
        ("Called by", _one(found.parent)),
        ("Runs again", _one(found.rerun_of)),
        ("Was told that this failed", _one(found.on_failure)),
        ("Was begun because this failed", _one(found.failure_of)),
        ("Part of, or kept out by", _one(found.part_of)),
        ("Called", found.children),
        ("Was run again as", found.reruns),
        ("Events of these runs are in it", found.members),
    )
    return tuple(Relatives(words, tuple(runs[:SHOWN]), max(0, len(runs) - SHOWN)) for words, runs in several if runs)


def _one(kin: Kin | None) -> Sequence[Kin]:
    return [kin] if kin is not None else []
