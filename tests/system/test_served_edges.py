"""Calls of an application over HTTP that are not the bus's, or not any more; what is large; deploys in the middle."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import msgspec

from stepstream import Bus, Context, Retry, Step
from stepstream.bus.trust.signing import HEADER, signed
from stepstream.bus.values.clock import now_ms
from stepstream.checkpoint.run.resolve import hurry_changed
from tests.served_app import Heard, served
from tests.support import Lab, eventually

KEY, FOREIGN = (f"signkey-test-{digit * 64}" for digit in "ab")
Handler = Callable[[Context, Step], Awaitable[Any]]


def keyed(lab: Lab) -> None:
    lab.settings = msgspec.structs.replace(lab.settings, signing_key=KEY, app_hosts=("localhost",))


async def repeated(heard: Heard, *, url: str = "", body: bytes = b"", key: str = "", at_ms: int = 0) -> httpx2.Response:
    """Make a call again that was heard: as it was, or with something changed."""
    headers = {HEADER: heard.headers[HEADER], "content-type": "application/json"}
    sent = body or heard.body
    if key or at_ms:
        sent, made = signed(sent, key or KEY, at_ms or now_ms())
        headers.update(made)
    async with httpx2.AsyncClient(verify=False) as http:
        return await http.post(url or heard.url, content=sent, headers=headers)


async def test_a_call_that_somebody_has_overheard_does_nothing_altered_or_later(lab: Lab) -> None:
    keyed(lab)
    app, ran = Bus("shop"), list[str]()
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        ran.append("hold")
        begun.set()
        await may_end.wait()

    @app.function("ship", on="order/paid")
    async def ship(ctx: Context, step: Step) -> str:
        await step.run("hold", hold)
        return await step.run("send", lambda: ran.append("send") or "sent")

    async with served(lab, app) as it:
        await lab.send("order/paid")
        await begun.wait()
        [heard] = it.heard
        # While its turn is at work: another attempt, other events, another step, another key, another time.
        altered = heard.body.replace(b'"attempt":0', b'"attempt":3')
        assert altered != heard.body
        for answer in (
            await repeated(heard, body=altered),
            await repeated(heard, body=heard.body.replace(b"order/paid", b"order/void")),
            await repeated(heard, key=FOREIGN),
        ):
            assert (answer.status_code, "another key" in answer.text) == (401, True), answer.text
        for apart_s in (-301, 301):
            answer = await repeated(heard, at_ms=now_ms() + apart_s * 1_000)
            assert (answer.status_code, "s from now, at most 300" in answer.text) == (401, True), answer.text
        elsewhere = await repeated(heard, url=heard.url.replace("stepId=step", f"stepId={'0' * 40}"))
        assert (elsewhere.status_code, "ctx.step_id" in elsewhere.text) == (400, True), elsewhere.text
        other = await repeated(heard, url=heard.url.replace("fnId=shop-ship", "fnId=shop-lost"))
        assert other.json()["code"] == "function_not_found"
        assert ran == ["hold"]
        may_end.set()
        assert await lab.output() == "sent"
        # Its turn is over: as it was, and signed anew by who has the key.
        for answer in (await repeated(heard), await repeated(heard, at_ms=now_ms() - 290_000)):
            assert (answer.status_code, answer.json()["code"]) == (409, "stale_call"), answer.text
        assert ran == ["hold", "send"]


async def test_a_call_that_comes_twice_is_recorded_once(lab: Lab) -> None:
    """A proxy repeats a request; the body runs twice, as bodies may, and what the first to end has returned counts."""
    keyed(lab)
    app, ends = Bus("shop"), list[asyncio.Future[str]]()

    async def hold() -> str:
        ends.append(asyncio.get_running_loop().create_future())
        return await ends[-1]

    @app.function("ship", on="order/paid")
    async def ship(ctx: Context, step: Step) -> str:
        return await step.run("hold", hold)

    async with served(lab, app) as it:
        await lab.send("order/paid")

        async def begun() -> bool:
            return len(ends) == len(it.heard)

        await eventually(lambda: _is(bool(ends)), "the call is at work")
        again = asyncio.ensure_future(repeated(it.heard[0]))
        await eventually(lambda: _is(len(ends) == 2), "so is the same again")
        ends[1].set_result("the second")
        answer = await again
        assert (answer.status_code, answer.json()) == (200, "the second")
        ends[0].set_result("the first")
        assert await lab.output() == "the second"
        assert (await lab.steps(await lab.one()))["hold"].result == "the second"


async def _is(what: bool) -> bool:
    return what


async def test_large_values_go_both_ways_and_what_is_too_large_is_told(lab: Lab) -> None:
    """Together they are more than a call may have: SDKs are told to fetch them, and ours looks them up."""
    keyed(lab)
    app = Bus("shop")
    large = 3 * 1024 * 1024

    @app.function("many", on="order/paid", retries=0)
    async def many(ctx: Context, step: Step) -> list[int]:
        one = await step.run("one", lambda: "a" * large)
        two, three = await asyncio.gather(*(step.run(name, lambda: "b" * large) for name in ("two", "three")))
        await step.sleep("nap", 0.01)
        return [len(ctx.event.data["text"]), len(one), len(two), len(three)]

    @app.function("step", on="order/step", retries=3)
    async def step_(ctx: Context, step: Step) -> str:
        return await step.run("huge", lambda: "x" * (large + large))

    @app.function("whole", on="order/whole", retries=3)
    async def whole(ctx: Context, step: Step) -> str:
        return "x" * (3 * large)

    async with served(lab, app) as it:
        await lab.send("order/paid", {"text": "é" * 1_000_000})
        assert await lab.output() == [1_000_000, large, large, large]
        assert max(len(heard.body) for heard in it.heard) < 4 * 1024 * 1024
        for name, told in (("step", "a step returns at most 4194304"), ("whole", "an answer over HTTP has at most")):
            await lab.send(f"order/{name}")
            run = await lab.status(await lab.first(f"shop-{name}"), "failed")
            assert run.error is not None
            assert told in run.error.message


async def _changed(lab: Lab, run: str, words: str) -> None:
    async def told() -> bool:
        error = json.loads((await lab.hash(await lab.status(run, "waiting"))).get("error", "{}"))
        return error.get("name") == "code_changed" and words in error["message"]

    await eventually(told, f"the run waits for a deploy: {words}")


async def test_a_deploy_between_two_attempts_of_one_of_several_steps(lab: Lab) -> None:
    """The version that comes does not call the step that is to be tried again: the run waits for one that does."""
    app, ran = Bus("shop"), list[str]()
    handlers: list[Handler] = []

    def fails_once() -> str:
        ran.append("mail")
        if ran.count("mail") == 1:
            handlers.append(without)  # the deploy
            raise ConnectionError("no mail")
        return "mailed"

    async def first(ctx: Context, step: Step) -> list[str]:
        return list(await asyncio.gather(step.run("pack", _ran, ran, "pack"), step.run("mail", fails_once)))

    async def without(ctx: Context, step: Step) -> list[str]:
        return [await step.run("pack", _ran, ran, "pack")]

    async def more(ctx: Context, step: Step) -> list[str]:
        both = await asyncio.gather(step.run("pack", _ran, ran, "pack"), step.run("mail", fails_once))
        return [*both, await step.run("thank", _ran, ran, "thank")]

    @app.function("ship", on="order/paid", retries=Retry(3, backoff=[0.01]))
    async def ship(ctx: Context, step: Step) -> list[str]:
        return await handlers[-1](ctx, step)

    handlers.append(first)
    async with served(lab, app):
        await lab.send("order/paid")
        run = await lab.first()
        await _changed(lab, run, "mail")
        handlers.append(more)
        await hurry_changed(lab.wire, "shop-ship")
        assert await lab.output() == ["pack", "mailed", "thank"]
    assert ran == ["pack", "mail", "mail", "thank"] or ran == ["mail", "pack", "mail", "thank"]


async def test_a_deploy_that_makes_a_wait_of_a_step_is_told_and_one_that_adds_steps_goes_on(lab: Lab) -> None:
    app, ran = Bus("shop"), list[str]()
    handlers: list[Handler] = []

    async def first(ctx: Context, step: Step) -> list[str]:
        one = await step.run("pack", _ran, ran, "pack")
        await step.sleep("nap", 0.02)
        return [one]

    async def other_kind(ctx: Context, step: Step) -> list[str]:
        await step.sleep("pack", "1s")
        return []

    async def more(ctx: Context, step: Step) -> list[str]:
        one = await step.run("pack", _ran, ran, "pack")
        await step.sleep("nap", 0.02)
        return [one, await step.run("thank", _ran, ran, "thank")]

    @app.function("ship", on="order/paid")
    async def ship(ctx: Context, step: Step) -> list[str]:
        try:
            return await handlers[-1](ctx, step)
        finally:
            if len(handlers) == 1 and ran:
                handlers.append(other_kind)

    handlers.append(first)
    async with served(lab, app):
        await lab.send("order/paid")
        run = await lab.first()
        await _changed(lab, run, "pack as run")
        handlers.append(more)
        await hurry_changed(lab.wire, "shop-ship")
        assert await lab.output() == ["pack", "thank"]
    assert ran == ["pack", "thank"]


def _ran(ran: list[str], name: str) -> str:
    ran.append(name)
    return name
