"""The function, under the harness."""

from collections.abc import Callable
from pathlib import Path

import pytest
from clover_dashboard.collections import opened
from clover_dashboard.functions import CollectionStart, app
from clover_dashboard.models import Model
from stand_ins import calls, tell

from stepstream import Harness

ASKED = CollectionStart("c1", "Clover", ["best oat milk", "oat milk for coffee"], [Model.OPUS, Model.GPT])
ASKS = [f"ask {model}: {query}" for query in ASKED.queries for model in ASKED.models]


@pytest.mark.criterion("steps")
async def test_a_step_for_each_query_and_model_and_one_that_stores(harness: Callable[..., Harness]) -> None:
    async with harness(app) as bus:
        await bus.send(ASKED)
        steps = await bus.steps()
        assert sorted(steps) == sorted([*ASKS, "store"])
        assert list(steps)[-1] == "store"
        collected = await bus.output()
        assert collected["answers"] == 4
    async with opened() as collections:
        stored = await collections.get("c1")
    assert stored is not None
    assert stored.answers is not None
    assert sum(answer.mentions for answer in stored.answers) == collected["mentions"]


@pytest.mark.criterion("fails")
async def test_a_model_that_fails_twice_is_asked_again_and_no_other_is(
    harness: Callable[..., Harness], told: Path
) -> None:
    tell(told, {"ask/opus/best*": {"fail": 2}})
    async with harness(app) as bus:
        await bus.send(ASKED)
        failing = (await bus.steps())["ask opus: best oat milk"]
        assert (failing.state, failing.attempts) == ("retrying", 1)
        await bus.finish()
        assert (await bus.output())["answers"] == 4
        assert (await bus.steps())["ask opus: best oat milk"].attempts == 3
    made = calls(told)
    assert {call: count for call, count in made.items() if count > 1} == {"ask/opus/best oat milk": 3}
    assert len(made) == 4


async def test_a_model_that_never_answers_fails_the_collection(harness: Callable[..., Harness], told: Path) -> None:
    tell(told, {"ask/gpt/*": {"fail": 99}})
    async with harness(app) as bus:
        await bus.send(ASKED)
        await bus.finish()
        run = await bus.run()
    assert run.status == "failed"
    assert run.error is not None
    assert "does not answer" in run.error.message
