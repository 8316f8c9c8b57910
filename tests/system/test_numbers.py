"""Numbers that JSON does not have: NaN and the infinities never turn into null, the first time and on replay alike."""

import pytest

from stepstream.bus.errors import EventInvalid, StepFailed
from stepstream.bus.retry import Retry
from stepstream.checkpoint.actions.invoke import invoke
from stepstream.checkpoint.waits.signals import send_signal
from tests.support import Lab

NAN, INFINITE = float("nan"), float("inf")
TOLD = "must be a finite number, got"


class Scores(dict[str, float]):
    pass


class Score(float):
    pass


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (NAN, f"the result of step 'score' is not JSON: {TOLD} nan"),
        ({"all": [1.0, -INFINITE], "note": None}, f"is not JSON: all[1]: {TOLD} -inf"),
        (Scores(mean=NAN), f"is not JSON: mean: {TOLD} nan"),
        ([Score("nan")], f"is not JSON: [0]: {TOLD} nan"),
    ],
)
async def test_a_steps_result_is_refused_at_once_and_on_replay_alike(lab: Lab, result: object, told: str) -> None:
    seen: list[str] = []
    tries: list[int] = []

    @lab.app.function("f", on="a", retries=Retry(3, backoff=0.01))
    async def f(ctx, step):
        def body() -> object:
            tries.append(1)
            return result

        try:
            await step.run("score", body)
        except StepFailed as error:
            seen.append(error.message)
        await step.sleep("nap", 0.05)

    await lab.work()
    await lab.send("a")
    assert (await lab.one()).status == "completed"
    assert len(tries) == 1
    assert len(seen) == 2
    assert seen[0] == seen[1]
    assert told in seen[0]


async def test_a_functions_output_is_refused_and_the_run_fails_without_another_attempt(lab: Lab) -> None:
    @lab.app.function("f", on="a", retries=Retry(3, backoff=0.01))
    async def f(ctx, step):
        return {"loss": {"last": NAN}}

    await lab.work()
    await lab.send("a")
    run = await lab.one()
    assert run.error is not None
    assert f"the function's result is not JSON: loss.last: {TOLD} nan" in run.error.message
    assert run.attempt == 0


async def test_progress_events_signals_and_calls_are_refused_from_inside_a_run(lab: Lab) -> None:
    told: list[str] = []

    @lab.app.function("f", on="a", retries=Retry(3, backoff=0.01))
    async def f(ctx, step):
        for act in (
            lambda: ctx.progress(50, rate=INFINITE),
            lambda: step.send_event("tell", "b", {"x": [NAN]}),
            lambda: step.send_signal("wave", "word", {"y": NAN}),
            lambda: step.invoke("call", "test-f", {"z": INFINITE}),
            lambda: step.fetch("ask", "http://127.0.0.1:1/", method="POST", json={"w": [None, NAN]}),
        ):
            try:
                made = act()
                if made is not None:
                    await made
            except Exception as error:
                told.append(str(error))

    await lab.work()
    await lab.send("a")
    assert (await lab.one()).status == "completed"
    for path, one in zip(("rate", "data.x[0]", "data.y", "data.z", "w[1]"), told, strict=True):
        assert f"{path}: {TOLD}" in one


async def test_signals_and_calls_from_outside_name_the_field(lab: Lab) -> None:
    @lab.app.function("f")
    async def f(ctx, step):
        return None

    await lab.work()
    for act, field in (
        (lambda: send_signal(lab.wire, "word", {"a": [NAN]}), "data.a[0]"),
        (lambda: invoke(lab.wire, "test-f", {"n": {"m": INFINITE}}), "data.n.m"),
    ):
        with pytest.raises(EventInvalid, match=TOLD) as refused:
            await act()
        assert refused.value.field == field
    with pytest.raises(EventInvalid, match="must be an object"):
        await invoke(lab.wire, "test-f", [1])  # pyright: ignore[reportArgumentType]
