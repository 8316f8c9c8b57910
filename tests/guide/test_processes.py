"""Steps that are commands, shortest examples: docs/guide.md quotes them."""

import json

from stepstream import Bus, Context, Harness, ProcessFailed, ProcessResult, Step
from tests.support import Lab


async def test_a_command_as_a_step(lab: Lab) -> None:
    @lab.app.function("sync", on="sync/press")
    async def sync(ctx: Context[dict], step: Step) -> dict:
        command = ["python3", "-c", "import sys; print(sys.stdin.read().upper())"]
        try:
            done = await step.subprocess("parse", command, stdin=json.dumps(ctx.event.data), timeout="10m", retries=2)
        except ProcessFailed as error:
            return {"failed": error.name, "code": error.exit_code, "output": error.output}
        return json.loads(done.stdout)

    await lab.work()
    await lab.send("sync/press", {"limit": 50})
    assert await lab.output() == {"LIMIT": 50}


async def test_a_command_is_stubbed_by_its_id() -> None:
    app = Bus("test")

    @app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> str:
        done = await step.subprocess("sync", ["no-such-command"])
        await step.sleep("nap", 1)
        return done.stdout

    async with Harness(app) as bus:
        bus.stub("sync", ProcessResult(stdout="3 rows"))
        await bus.send("a")
        await bus.advance(1)
        assert await bus.output() == "3 rows"
