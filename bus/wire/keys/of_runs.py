"""Keys of runs. They lie in the partition of their run."""

from stepstream.bus.values.ids import FIRST
from stepstream.bus.wire.keys.of_functions import function
from stepstream.bus.wire.keys.prefixed import Key


def run(slug: str, run_id: str) -> str:
    """hash · one run: status, event, turn, entry, fence, worker, output or error. Expires `keep` after its end."""
    return f"{function(slug, run_id)}run:{run_id}"


def steps(slug: str, run_id: str) -> str:
    """hash · step id → memo, written once: n, kind, attempts, started, ended, data or error. Expires with its run."""
    return f"{function(slug, run_id)}steps:{run_id}"


def open_steps(slug: str, run_id: str) -> str:
    """hash · step id → what is not finished: kind, since, due, attempt, error. Removed with the memo."""
    return f"{function(slug, run_id)}open:{run_id}"


def log(slug: str, run_id: str) -> str:
    """list · what a run has written: lines as JSON, the newest 2,000 (256 KiB). Expires with its run."""
    return f"{function(slug, run_id)}log:{run_id}"


def attempts(slug: str, run_id: str) -> str:
    """list · the last 20 attempts of a run that failed: ended, step, attempt, took, error. Expires with its run."""
    return f"{function(slug, run_id)}attempts:{run_id}"


def runs(slug: str, status: str, where: str = FIRST) -> str:
    """zset · run → queued at, ms: the index of runs by status. Members may outlive their run; readers skip them."""
    return f"{function(slug, where)}runs:{status}"


KEYS: tuple[Key, ...] = (
    (run, ("F", "<run>")), (steps, ("F", "<run>")), (open_steps, ("F", "<run>")), (log, ("F", "<run>")),
    (attempts, ("F", "<run>")), (runs, ("F", "<status>")),
)  # fmt: skip
