"""The front page, read from a server: workers that were replaced, and what killed them."""

import httpx2

from stepstream.bus.values import codec
from stepstream.bus.wire import keys
from stepstream.checkpoint.cli.watching import look
from stepstream.web.app import create_app
from tests.support import Lab
from tests.system.test_operations import count, send, sleeper


async def test_a_worker_that_was_replaced_is_told_of_and_a_run_that_kills_its_workers(lab: Lab) -> None:
    sleeper(lab)
    await lab.work()
    await send(lab, 1)
    await count(lab, "waiting", 1)
    [run] = await lab.runs()
    now = await lab.wire.moment()
    held = codec.encode([{"function": "test-f", "run": run.id, "step": "", "since": now}])
    await lab.wire.call("ZADD", keys.workers(), now - 5_000, "gone")
    await lab.wire.call("HSET", keys.worker("gone"), "seen", now - 8_000, "held", held)
    app = create_app(configured=lab.settings)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://localhost") as site:
        assert "it had 1 run in hand" in (await site.get("/", headers={"accept": "text/html"})).text
        await lab.wire.call("HSET", keys.run("test-f", run.id), "crashes", 2)
        told = (await site.get("/", headers={"accept": "text/html"})).text
        assert "a run of test-f has killed its worker 2 times" in told
        overview = (await site.get("/v1/overview")).json()["data"]
        assert [(one["words"], one["command"]) for one in overview["trouble"] if one["run"]] == [
            ("a run of test-f has killed its worker 2 times", f"bus run {run.id}")
        ]
        [function] = overview["functions"]
        assert (function["function"], function["workers"], function["runs"]["waiting"]) == ("test-f", 1, 1)
        assert function["hour"]["started"] == sum(one["started"] for one in function["hour"]["minutes"]) == 1
        assert [one.command for one in (await look(lab.wire)).trouble] == [
            one["command"] for one in overview["trouble"]
        ]
    await app.close()
    await lab.wire.call("HDEL", keys.run("test-f", run.id), "crashes")
    await lab.wire.call("DEL", keys.worker("gone"))
    await lab.wire.call("ZREM", keys.workers(), "gone")
