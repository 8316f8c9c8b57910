"""What speaks against each claim in a gale: its functions belong together, and are to be told of each other once."""

from collections import Counter
from typing import ClassVar

from tests.chaos.gale_app import app
from tests.chaos.verdict import Verdict, output_of

FUNCTIONS = tuple(app.functions.values())


class GaleVerdict(Verdict):
    """The verdict over tests/chaos/gale_app.py."""

    SENT = ("gale/stop", "gale/reply")
    EXPECTED: ClassVar = {
        "gale-three": "completed", "gale-crossing": "completed", "gale-child": "completed", "gale-hearing": "completed",
        "gale-saying": "completed", "gale-lined": "completed", "gale-sharing": "completed", "gale-shared": "completed",
        "gale-batched": "completed skipped", "gale-debounced": "completed skipped", "gale-failing": "completed failed",
        "gale-failing-failure": "completed", "gale-listening": "completed", "gale-stopped": "completed cancelled",
        "gale-single": "completed cancelled", "gale-ticked": "completed",
    }  # fmt: skip
    SAYS: ClassVar = {
        "gale-three": ["a", "b", "c"], "gale-crossing": [True, "a", "a"], "gale-child": "a",
        "gale-lined": ["a", "b"], "gale-sharing": "a", "gale-shared": "a", "gale-debounced": "a",
        "gale-failing": ["a", "good"], "gale-stopped": "a", "gale-single": "a",
    }  # fmt: skip

    def _relations(self) -> None:
        """Calls, failures and buffers: told once, and to the right one."""
        runs, told = self._runs, Counter[str]()
        parents = Counter(kept.get("parent") for kept in runs["gale-child"].values())
        for run in runs["gale-crossing"]:
            if parents[f"gale-crossing|{run}|call"] != 1:
                self._say("doubled", f"gale-crossing {run} called {parents[f'gale-crossing|{run}|call']} children")
        failed = {run for slug in runs for run, kept in runs[slug].items() if kept.get("status") == "failed"}
        for slug, wanted in (("gale-listening", failed), ("gale-failing-failure", failed & {*runs["gale-failing"]})):
            told = Counter(output_of(kept) for kept in runs[slug].values())
            for run in wanted:
                if told[run] != 1:
                    self._say("lost" if not told[run] else "doubled", f"{slug} heard {told[run]} times of {run}")
        if "key deletion" not in self._storm.faults:  # which takes away what tells the sender
            for run, kept in runs["gale-saying"].items():
                if output_of(kept) is not True:
                    self._say("lost", f"gale-saying {run} does not know that it was heard")
        for run, kept in runs["gale-hearing"].items():
            if not isinstance(output_of(kept), int):
                self._say("lost", f"gale-hearing {run} heard nothing: {kept}")
        for slug in ("gale-batched", "gale-debounced"):
            for run, kept in runs[slug].items():
                if kept.get("status") == "skipped" and runs[slug].get(kept["by"], {}).get("status") != "completed":
                    self._say("lost", f"{slug} {run} is part of {kept['by']}, which has not completed")
        taken = Counter(id for kept in runs["gale-batched"].values() for id in output_of(kept) or ())
        for _, id in self._entries["gale/gathered"]:
            if taken[id] != 1:
                self._say("lost" if not taken[id] else "doubled", f"event {id} is in {taken[id]} batches")
        ticks = Counter(output_of(kept) for kept in runs["gale-ticked"].values())
        for tick, times in ticks.items():
            if times != 1:
                self._say("doubled", f"tick {tick} ran {times} times")
        self.counts["ticks"] = len(ticks)
