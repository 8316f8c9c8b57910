"""Functions of a web application that is called over HTTP, by the real driver: `serve(app, functions=…, called=True)`."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import msgspec
import pytest
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.testclient import TestClient

from stepstream import (
    Bus,
    ConfigError,
    Context,
    EventData,
    FunctionFailed,
    NonRetriable,
    Retry,
    Step,
    StepFailed,
    mount,
    serve,
)
from stepstream.bus.trust.signing import signed
from stepstream.bus.values.clock import now_ms
from stepstream.checkpoint.actions.cancel import cancel_now
from stepstream.checkpoint.run.owned import Owned
from stepstream.consumers.remote.memos import proof_of
from tests.patience import PATIENT_S
from tests.served_app import PATH, served
from tests.support import Lab, eventually


class Paid(EventData, name="order/paid"):
    order: str
    cents: int = 0


class Label(BaseModel):
    code: str
    for_order: str


async def test_a_sequence_with_typed_values_costs_one_call_and_is_recorded_step_by_step(lab: Lab) -> None:
    app = Bus("shop")
    handled = 0

    def label(order: str) -> Label:  # in a thread
        return Label(code=f"L-{order}", for_order=order)

    async def weigh(label: Label, grams: int) -> dict[str, Any]:
        return {"code": label.code, "grams": grams}

    @app.function("ship", on=Paid)
    async def ship(ctx: Context[Paid], step: Step) -> dict[str, Any]:
        nonlocal handled
        handled += 1
        made = await step.run("label", label, ctx.event.data.order)
        assert isinstance(made, Label)
        weights = [await step.run("weigh", weigh, made, grams) for grams in (1, 2)]
        return {"label": made.code, "weights": weights, "cents": ctx.event.data.cents}

    async with served(lab, app):
        await lab.send("order/paid", {"order": "o1", "cents": 7})
        run = await lab.one()
        assert run.status == "completed", run.error
        assert await lab.output() == {
            "label": "L-o1", "cents": 7, "weights": [{"code": "L-o1", "grams": 1}, {"code": "L-o1", "grams": 2}],
        }  # fmt: skip
        assert list(await lab.steps(run)) == ["label", "weigh", "weigh:1"]
    assert handled == 1


async def test_gathered_steps_run_side_by_side_and_sequences_beside_each_other_go_on_alone(lab: Lab) -> None:
    app = Bus("shop")
    at_work = asyncio.Barrier(2)
    slow_may_end = asyncio.Event()

    async def meet(name: str) -> str:
        await at_work.wait()
        return name

    async def slow() -> str:
        await slow_may_end.wait()
        return "slow"

    async def last() -> str:
        slow_may_end.set()
        return "last"

    async def sequence(step: Step) -> str:
        return await step.run("quick", str) + await step.run("last", last)

    @app.function("both", on=Paid)
    async def both(ctx: Context[Paid], step: Step) -> list[str]:
        first = await asyncio.gather(step.run("a", meet, "a"), step.run("b", meet, "b"))
        async with asyncio.TaskGroup() as tasks:
            one, other = tasks.create_task(step.run("slow", slow)), tasks.create_task(sequence(step))
        return [*first, one.result(), other.result()]

    async with served(lab, app):
        await lab.send("order/paid", {"order": "o1"})
        assert await lab.output() == ["a", "b", "slow", "last"]


async def test_the_first_of_a_race_wins_and_the_loser_is_not_waited_for(lab: Lab) -> None:
    app = Bus("shop")

    @app.function("race", on=Paid)
    async def race(ctx: Context[Paid], step: Step) -> str:
        tasks = [
            asyncio.create_task(step.sleep("deadline", "1d")),
            asyncio.create_task(step.wait_for_event("shipped", "order/shipped", match="data.order")),
        ]
        done, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for one in left:
            one.cancel()
        event: Any = done.pop().result()
        return f"{event.data['by']} {await step.run('after', str, 'then')}"

    async with served(lab, app):
        await lab.send("order/paid", {"order": "o1"})
        run = await lab.first()
        await lab.status(run, "waiting")
        await lab.send("order/shipped", {"order": "o2", "by": "ship"})
        await lab.send("order/shipped", {"order": "o1", "by": "bike"})
        assert await lab.output() == "bike then"


async def test_failures_are_tried_again_caught_or_told_of(lab: Lab) -> None:
    app = Bus("shop")
    tries = 0
    told: list[str] = []

    def flaky() -> str:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise ConnectionError(f"try {tries}")
        return f"on try {tries}"

    def hopeless() -> None:
        raise NonRetriable("never")

    async def tell(ctx: Context[FunctionFailed], step: Step) -> None:
        told.append(f"{ctx.event.data.error.name}: {ctx.event.data.error.message}")

    @app.function("try", on=Paid, retries=Retry(3, backoff=[0.01, 0.02]), on_failure=tell)
    async def trying(ctx: Context[Paid], step: Step) -> str:
        result = await step.run("flaky", flaky)
        try:
            await step.run("hopeless", hopeless)
        except StepFailed as error:
            result += f", caught {error.name}: {error.message}"
        raise NonRetriable(result)

    async with served(lab, app):
        await lab.send("order/paid", {"order": "o1"})
        await eventually(lambda: _has(told), "the failure is told of")
        failed = next(run for run in await lab.runs() if run.function == "shop-try")
        assert failed.status == "failed"
        assert failed.error is not None
        assert (failed.error.name, failed.error.message) == ("NonRetriable", "on try 3, caught NonRetriable: never")
        assert told == ["NonRetriable: on try 3, caught NonRetriable: never"]
        assert (await lab.steps(failed))["flaky"].attempts == 3


async def _has(several: list[str]) -> bool:
    return bool(several)


async def test_waits_calls_signals_and_events_are_done_by_the_bus(lab: Lab) -> None:
    app = Bus("shop")

    @app.function("double")
    async def double(ctx: Context[dict[str, int]], step: Step) -> int:
        return await step.run("double", lambda: ctx.event.data["n"] * 2)

    @app.function("all", on=Paid)
    async def everything(ctx: Context[Paid], step: Step) -> list[Any]:
        await step.sleep("nap", "20ms")
        [sent] = await step.send_event("send", "order/told", {"order": ctx.event.data.order})
        heard = await step.wait_for_event(
            "hear", "order/told", if_="async.data.order == event.data.order", timeout="1h"
        )
        late = await step.wait_for_event("late", Paid, timeout="10ms", if_="async.data.order == 'other'")
        doubled = await step.invoke("call", double, {"n": 21}, timeout="1m")
        ended = await step.subprocess("echo", ["echo", "hi"])
        given = await step.send_signal("give", "nobody", 1)
        return [heard is not None and heard.id == sent, late, doubled, ended.stdout, given]

    async with served(lab, app):
        await lab.send("order/paid", {"order": "o1"})
        await lab.ended(2)
        run = next(one for one in await lab.runs() if one.function == "shop-all")
        assert run.status == "completed", run.error

        assert json.loads(bytes(run.output or b"null")) == [True, None, 42, "hi\n", False]


async def test_the_state_is_of_the_bus_s_lifespan_and_a_cancelled_run_ends_what_it_does(lab: Lab) -> None:
    opened: list[str] = []
    begun, ended = asyncio.Event(), asyncio.Event()

    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncGenerator[str]:
        opened.append("open")
        yield "the state"
        opened.append("closed")

    app = Bus("shop", lifespan=lifespan)

    async def forever(state: str) -> None:
        begun.set()
        assert state == "the state"
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    @app.function("long", on=Paid, cancel_on="order/cancelled")
    async def long(ctx: Context[Paid, str], step: Step) -> None:
        await step.run("forever", forever, ctx.state)

    async with served(lab, app):
        await lab.send("order/paid", {"order": "o1"})
        await asyncio.wait_for(begun.wait(), PATIENT_S)
        await lab.send("order/cancelled")
        assert (await lab.one()).status == "cancelled"
        await asyncio.wait_for(ended.wait(), PATIENT_S)
        assert opened == ["open"]
    assert opened == ["open", "closed"]


async def test_a_function_whose_turn_is_over_begins_no_further_step(lab: Lab) -> None:
    app, begun, answered = Bus("shop"), list[str](), asyncio.Event()

    async def cancel(run: str) -> None:
        begun.append("first")
        await cancel_now(lab.wire, run, "by the test")

    @app.function("ship", on=Paid)
    async def ship(ctx: Context[Paid], step: Step) -> None:
        try:
            await step.run("first", cancel, ctx.run_id)
            await step.run("second", lambda: begun.append("second"))
        finally:
            answered.set()

    async with served(lab, app):
        await lab.send("order/paid", {"order": "o1"})
        assert (await lab.one()).status == "cancelled"
        await asyncio.wait_for(answered.wait(), PATIENT_S)
    assert begun == ["first"]


async def test_a_step_that_is_only_to_be_told_of_does_not_run(lab: Lab) -> None:
    app, begun, told = Bus("shop"), list[str](), list[Any]()

    async def ask_beside(run: str) -> None:
        begun.append(run)
        if len(begun) == 1:
            kept = await lab.hash((await lab.runs())[0])
            proof = proof_of(Owned("shop-ship", run, int(kept["turn"]), kept["fence"]))
            ctx = {"run_id": run, "qi_id": proof, "disable_immediate_execution": True}
            event = {"id": "e", "name": "order/paid", "data": {"order": "o1"}, "ts": 1}
            async with httpx2.AsyncClient() as http:
                answer = await http.post(
                    f"{it.url}?fnId=shop-ship&stepId=step", json={"ctx": ctx, "event": event, "steps": {}}
                )
            told.extend(answer.json())

    @app.function("ship", on=Paid)
    async def ship(ctx: Context[Paid], step: Step) -> None:
        await step.run("ask", ask_beside, ctx.run_id)

    async with served(lab, app) as it:
        await lab.send("order/paid", {"order": "o1"})
        await lab.output()
    assert len(begun) == 1
    assert [(one["op"], one["userland"]["id"]) for one in told] == [("StepPlanned", "ask")]


async def test_steps_end_for_the_handler_in_the_order_in_which_they_did(lab: Lab) -> None:
    app = Bus("shop")

    async def when_recorded(step: str) -> None:
        async def is_there() -> bool:
            found = (await lab.steps((await lab.runs())[0])).get(step)
            return found is not None and found.state == "completed"

        await eventually(is_there, f"{step} is recorded")

    @app.function("ship", on=Paid)
    async def ship(ctx: Context[Paid], step: Step) -> list[str]:
        ended: list[str] = []

        async def one(name: str, after: str) -> None:
            await step.run(name, when_recorded, after) if after else await step.run(name, lambda: None)
            ended.append(name)

        await asyncio.gather(one("first called", "second called"), one("second called", ""))
        return ended

    async with served(lab, app):
        await lab.send("order/paid", {"order": "o1"})
        assert await lab.output() == ["second called", "first called"]


async def test_a_handler_that_leaves_out_what_earlier_calls_have_done_is_not_taken_to_have_returned(lab: Lab) -> None:
    app, has_changed = Bus("shop"), list[bool]()

    @app.function("ship", on=Paid, retries=0)
    async def ship(ctx: Context[Paid], step: Step) -> str:
        if not has_changed:
            await step.run("pack", lambda: has_changed.append(True))
            await step.sleep("nap", 0.01)
        return "as if it had packed nothing"

    async with served(lab, app):
        await lab.send("order/paid", {"order": "o1"})
        run = await lab.first()

        async def is_told() -> bool:
            found = await lab.status(run, "waiting")
            return found.error is not None and found.error.name == "code_changed" and "pack" in found.error.message

        await eventually(is_told, "the run says that the code has changed")


async def test_a_call_that_nobody_makes_but_the_bus_is_refused(lab: Lab) -> None:
    app = Bus("shop")

    @app.function("ship", on=Paid)
    async def ship(ctx: Context[Paid], step: Step) -> None:
        raise AssertionError("it is not to be called")

    async with served(lab, app) as it:
        event = {"id": "e", "name": "order/paid", "data": {"order": "o1"}, "ts": 1}
        ctx: dict[str, Any] = {
            "run_id": "01M80C274S0000000000000000",
            "qi_id": "WyJzaG9wLXNoaXAiLDEsImYiXQ",
            "stack": {"stack": []},
        }
        body: dict[str, Any] = {"ctx": ctx, "event": event, "steps": {}}
        async with httpx2.AsyncClient() as http:
            forged = await http.post(f"{it.url}?fnId=shop-ship&stepId=step", json=body)
            unknown = await http.post(f"{it.url}?fnId=shop-lost&stepId=step", json=body)
            empty = await http.post(f"{it.url}?fnId=shop-ship&stepId=step", json={})
        assert (forged.status_code, forged.json()["code"]) == (409, "stale_call")
        assert (unknown.status_code, unknown.json()["code"]) == (500, "function_not_found")
        assert empty.status_code == 400


async def test_a_call_without_the_signature_of_the_key_is_refused(lab: Lab) -> None:
    app, key = Bus("shop"), "ab" * 32

    @app.function("ship", on=Paid)
    async def ship(ctx: Context[Paid], step: Step) -> None: ...

    configured = msgspec.structs.replace(lab.settings, signing_key=key)
    web = Starlette()
    mount(web, PATH, serve(app, functions=[ship], called=True, configured=configured))
    with TestClient(web, base_url="http://localhost") as http:
        url = f"{PATH}?fnId=shop-lost&stepId=step"
        assert http.post(url, content=b"{}").status_code == 401
        assert http.put(PATH).status_code == 401
        body, headers = signed(b"{}", key, now_ms())
        assert http.post(url, content=body, headers=headers).json()["code"] == "function_not_found"
        _, others = signed(b"{}", "cd" * 32, now_ms())
        assert http.post(url, content=body, headers=others).status_code == 401


@pytest.mark.parametrize(
    "keys",
    [{"api_tokens": ("token-of-admins-1",)}, {"session_key": "session-key-" + "a" * 32}],
    ids=["tokens", "log-in"],
)
async def test_where_there_are_keys_but_none_to_sign_with_no_call_is_answered(lab: Lab, keys: dict[str, Any]) -> None:
    app = Bus("shop")

    @app.function("ship", on=Paid)
    async def ship(ctx: Context[Paid], step: Step) -> None: ...

    configured = msgspec.structs.replace(lab.settings, **keys)
    web = Starlette()
    mount(web, PATH, serve(app, functions=[ship], called=True, configured=configured))
    with TestClient(web, base_url="http://localhost") as http:
        url = f"{PATH}?fnId=shop-lost&stepId=step"
        body, headers = signed(b"{}", "cd" * 32, now_ms())
        for more in ({}, headers, {"authorization": "Bearer token-of-admins-1"}):
            answer = http.post(url, content=body, headers=more)
            assert (answer.status_code, "BUS_SIGNING_KEY" in answer.json()["error"]) == (401, True), answer.text
        assert http.put(PATH, headers=headers).status_code == 401


def test_functions_of_a_bus_are_called_all_or_none() -> None:
    app = Bus("shop")

    @app.function("ship", on=Paid)
    async def ship(ctx: Context[Paid], step: Step) -> None: ...

    @app.function("bill", on=Paid)
    async def bill(ctx: Context[Paid], step: Step) -> None: ...

    with pytest.raises(ConfigError, match="shop-bill is not in functions"):
        serve(app, functions=[ship], called=True)
