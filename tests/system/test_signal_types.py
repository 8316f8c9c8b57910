"""A signal that is not of the type that is waited for: who sends it hears so, and the run waits on."""

import contextlib
from collections.abc import AsyncGenerator
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta
from pydantic import BaseModel, model_validator

from stepstream import Bus, Context, Step
from stepstream.bus.errors import EventInvalid
from stepstream.checkpoint.read.run.log import log_of
from stepstream.checkpoint.waits.signals import send_signal
from stepstream.consumers.turn.steps.wait import taken
from tests.served_app import served
from tests.support import Lab, eventually


class Answer(msgspec.Struct):
    by: str
    approved: bool


class Even(BaseModel):
    """A schema cannot say what its validator asks for."""

    number: int

    @model_validator(mode="after")
    def _is_even(self) -> "Even":
        if self.number % 2:
            raise ValueError(f"{self.number} is odd")
        return self


def asks(app: Bus, kind: Any) -> None:
    @app.function("ask", on="order/paid", retries=0)
    async def ask(ctx: Context, step: Step) -> Any:
        answer = await step.wait_for_signal("asked", "go", type=kind, timeout="1d")
        return [type(answer).__name__, await step.run("after", str, "went on")]


async def waits(lab: Lab) -> str:
    """Return the run that waits for the signal `go`."""
    await lab.send("order/paid", {"order": "o1"})
    run = await lab.first()
    await lab.status(run, "waiting")
    return run


@contextlib.asynccontextmanager
async def at_work(lab: Lab, kind: Any, *, is_called: bool) -> AsyncGenerator[None]:
    """Run a function that waits for the type, in a worker or called over HTTP."""
    if is_called:
        app = Bus("test")
        asks(app, kind)
        async with served(lab, app):
            yield
    else:
        asks(lab.app, kind)
        await lab.work()
        yield


both = pytest.mark.parametrize("is_called", [False, True])


@both
async def test_a_signal_of_the_wrong_type_is_refused_where_it_is_sent(lab: Lab, *, is_called: bool) -> None:
    """It failed the run of whoever waited, for good."""
    async with at_work(lab, Answer, is_called=is_called):
        run = await waits(lab)
        for wrong, told in (("yes", "data: expected object"), ({"by": "ada", "approved": "y"}, "data.approved: exp")):
            with pytest.raises(EventInvalid, match=f"{told}.*run {run} waits for signal 'go' with another type"):
                await send_signal(lab.wire, "go", wrong)
        assert await send_signal(lab.wire, "go", {"by": "ada", "approved": True}) == run
        assert await lab.output() == ["Answer", "went on"]
        assert list(await lab.steps(await lab.one())) == ["asked", "after"]


@both
async def test_one_that_gets_through_is_told_in_the_log_and_the_run_waits_on(lab: Lab, *, is_called: bool) -> None:
    async with at_work(lab, Even, is_called=is_called):
        run = await waits(lab)
        assert await send_signal(lab.wire, "go", {"number": 3}) == run

        async def heard() -> bool:
            return await send_signal(lab.wire, "go", {"number": 4}) == run

        await eventually(heard, "it waits again")
        assert await lab.output() == ["Even", "went on"]
        assert list(await lab.steps(await lab.one())) == ["asked", "asked~1", "after"]
        log = await log_of(lab.wire, "test-ask", run)
        [line] = [line.text for line in log.lines if line.source == "bus"]
        assert line.startswith("ignored signal go, and waits on: ")
        assert "3 is odd" in line


async def test_a_step_that_sends_the_wrong_type_fails_in_place_of_who_waits(lab: Lab) -> None:
    @lab.app.function("say", on="shop/spoken", retries=3)
    async def say(ctx: Context, step: Step) -> None:
        await step.send_signal("say", "go", "yes")

    async with at_work(lab, Answer, is_called=False):
        run = await waits(lab)
        await lab.send("shop/spoken")
        said = await lab.status(await lab.first("test-say"), "failed")
        assert said.error is not None
        assert f"run {run} waits for signal 'go' with another type" in said.error.message
        assert (await lab.status(run, "waiting")).error is None
        assert await send_signal(lab.wire, "go", None) == run, "nothing is an answer, too"
        await lab.ended(2)


@both
async def test_a_type_that_a_deploy_has_widened_counts_once_somebody_was_refused(lab: Lab, *, is_called: bool) -> None:
    """A run that waits has noted its type before the deploy: it would be refused for ever what the new code takes."""
    if is_called:
        kinds = iter((Answer, Answer | str))
        app = Bus("test")

        @app.function("ask", on="order/paid", retries=0)
        async def ask(ctx: Context, step: Step) -> Any:
            kind: Any = now[0]
            return await step.wait_for_signal("asked", "go", type=kind, timeout="1d")

        now: list[Any] = [next(kinds)]
        async with served(lab, app):
            run = await waits(lab)
            now[0] = next(kinds)
            await _taken_at_last(lab, run)
        return
    asks(lab.app, Answer)
    old = await lab.work()
    run = await waits(lab)
    old.stop()
    new = Bus("test")
    asks(new, Answer | str)
    await lab.work(app=new)
    await _taken_at_last(lab, run)


async def _taken_at_last(lab: Lab, run: str) -> None:
    with pytest.raises(EventInvalid):
        await send_signal(lab.wire, "go", "yes")

    async def is_taken() -> bool:
        with contextlib.suppress(EventInvalid):
            return await send_signal(lab.wire, "go", "yes") == run
        return False

    await eventually(is_taken, "the run has said what it takes now")
    assert (await lab.one()).status == "completed"


def test_what_no_schema_can_be_made_of_is_left_to_who_waits() -> None:
    class Own:
        pass

    assert taken(Any) == b"null"
    assert taken(Own) == b"null"
    assert taken(Annotated[str, Meta(max_length=3)]) != b"null"
    assert taken(msgspec.defstruct("Wide", [(f"field_{n}", str) for n in range(2_000)])) == b"null"
