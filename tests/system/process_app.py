"""An application whose step is a command with a family; for a worker process that is killed."""

from stepstream import Bus, Context, Step
from tests.system.test_processes import Pids, tree

app = Bus("test")


@app.function("tree", on="tree", retries=0)
async def run_tree(ctx: Context[dict], step: Step) -> None:
    import os
    from pathlib import Path

    pids = Pids(Path(os.environ["PIDS"]).parent)
    await step.subprocess("s", tree(pids))


def never() -> None:
    """Return never."""
    import os
    import threading
    from pathlib import Path

    Path(os.environ["BEGUN"]).touch()
    threading.Event().wait()


@app.function("sync", on="sync", retries=0)
async def run_sync(ctx: Context[dict], step: Step) -> None:
    await step.run("never", never)


@app.function("to-thread", on="to-thread", retries=0)
async def run_to_thread(ctx: Context[dict], step: Step) -> None:
    import asyncio

    await step.run("never", asyncio.to_thread, never)
