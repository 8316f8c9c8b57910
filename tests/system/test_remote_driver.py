"""Functions behind HTTP, by an application that answers as its script says: what it is asked, and what comes of it."""

import asyncio
import json
from collections.abc import Mapping

import pytest
from starlette.responses import Response
from starlette.testclient import TestClient

from stepstream import create_app
from stepstream.bus.wire import keys
from stepstream.checkpoint.actions.cancel import cancel_now
from stepstream.checkpoint.upkeep.audit import audit
from stepstream.checkpoint.waits.event_waits import has_waits
from stepstream.checkpoint.waits.signals import send_signal
from stepstream.consumers.remote.calls.client import Client
from stepstream.consumers.remote.calls.post import Unreachable
from stepstream.consumers.remote.protocol import Answer
from tests.scripted_app import SDK, Told, op, ops, returned, serving, sha
from tests.support import Lab, eventually


async def test_steps_that_the_app_has_run_are_recorded_and_sent_back_in_their_order(lab: Lab) -> None:
    def script(told: Told) -> Response:
        for step, value in (("a", {"x": 1.0}), ("b", None), ("b:1", "two")):
            if not told.has(step):
                base, _, number = step.partition(":")
                userland = {"id": base, "index": int(number)} if number else {"id": base}
                return ops(op("StepRun", step, data=value, userland=userland))
        return returned([told.value(one) for one in ("a", "b", "b:1")])

    async with serving(script) as app:
        lab.app = app.bus("order/paid")
        await lab.work()
        await lab.send("order/paid", {"n": 12345678901234567890})
        run = await lab.one()
        assert json.loads(bytes(run.output)) == [{"data": {"x": 1.0}}, {"data": None}, {"data": "two"}]
        assert list(await lab.steps(run)) == ["a", "b", "b:1"]
    first, *_, last = app.calls
    assert (first.step, first.function, first.headers["x-inngest-req-version"]) == ("step", "shop-f", "-1")
    assert last.headers["x-inngest-req-version"] == "2"
    assert first.body["event"] == first.body["events"][0]
    assert first.body["event"]["data"] == {"n": 12345678901234567890}
    assert first.body["event"]["user"] == {}
    assert first.ctx["run_id"] == run.id
    assert first.ctx["max_attempts"] == 5
    assert last.ctx["stack"] == {"current": 3, "stack": [sha("a"), sha("b"), sha("b:1")]}


async def test_planned_steps_run_side_by_side_and_the_app_is_asked_once_when_both_have_ended(lab: Lab) -> None:
    at_work = asyncio.Barrier(2)

    async def script(told: Told) -> Response:
        if told.step != "step":
            await at_work.wait()  # both calls are open
            name = "p" if told.step == sha("p") else "q"
            return ops(op("StepRun", name, data=name))
        if told.has("p"):
            return returned([told.value("p"), told.value("q")])
        return ops(op("StepPlanned", "p"), op("StepPlanned", "q"))

    async with serving(script) as app:
        lab.app = app.bus("order/paid")
        await lab.work()
        await lab.send("order/paid")
        assert await lab.output() == [{"data": "p"}, {"data": "q"}]
    assert sorted(one.step for one in app.calls) == sorted(["step", sha("p"), sha("q"), "step"])
    assert [one.ctx["disable_immediate_execution"] for one in app.calls] == [False, True, True, False]


async def test_a_step_that_fails_is_tried_again_and_the_last_error_goes_to_the_app(lab: Lab) -> None:
    def script(told: Told) -> Response:
        if told.has("a"):
            return returned(told.value("a"))
        error = {
            "name": "Boom",
            "message": f"attempt {told.ctx['attempt']}",
            "stack": "at line 3",
            "__serialized": True,
        }
        return ops(op("StepError", "a", error=error), retry_after="1")

    async with serving(script) as app:
        lab.app = app.bus("order/paid", retries=1)
        await lab.work()
        await lab.send("order/paid")
        told = {"name": "Boom", "message": "attempt 1", "stack": "at line 3", "__serialized": True}
        assert await lab.output() == {"error": told}
    assert [(one.step, one.ctx["attempt"]) for one in app.calls] == [("step", 0), ("step", 1), ("step", 0)]


async def test_waits_hold_no_call_and_go_on_where_the_run_stood(lab: Lab) -> None:
    def script(told: Told) -> Response:
        if not told.has("nap"):
            return ops(op("Sleep", "nap", name="300ms"))
        if not told.has("w"):
            return ops(
                op(
                    "WaitForEvent",
                    "w",
                    opts={"event": "order/shipped", "timeout": "1h", "if": "event.data.n == async.data.n"},
                )
            )
        if not told.has("none"):
            return ops(op("WaitForEvent", "none", opts={"event": "order/lost", "timeout": "10ms"}))
        return returned([told.value("nap"), told.value("w")["data"], told.value("none")])

    async with serving(script) as app:
        lab.app = app.bus("order/paid")
        worker = await lab.work()
        await lab.send("order/paid", {"n": 1})
        run = await lab.first()
        await eventually(lambda: _armed(lab), "it waits for the event")
        await lab.status(run, "waiting")
        await lab.no_turns(worker)
        await lab.send("order/shipped", {"n": 2})
        await lab.send("order/shipped", {"n": 1, "by": "bike"})
        assert await lab.output() == [None, {"n": 1, "by": "bike"}, None]
    assert len(app.calls) == 4


async def _armed(lab: Lab) -> bool:
    return await has_waits(lab.wire, "order/shipped")


async def test_what_was_saved_while_the_call_is_open_is_known_and_not_called_again(lab: Lab) -> None:
    with TestClient(create_app(configured=lab.settings)) as site:
        saved: list[int] = []

        def save(told: Told, step: str, qi_id: str) -> int:
            body = {
                "run_id": told.ctx["run_id"],
                "qi_id": qi_id,
                "steps": [op("StepRun", step, data=step, junk={"a": 1})],
            }
            return site.post(f"/v1/checkpoint/{told.ctx['run_id']}/async", json=body).status_code

        async def script(told: Told) -> Response:
            if told.has("b"):
                return ops(op("RunComplete", "end", data=[told.value("a"), told.value("b")]))
            for step in ("a", "b", "b"):  # the second time as a client does that got no answer
                saved.append(await asyncio.to_thread(save, told, step, told.ctx["qi_id"]))
            return ops(op("Sleep", "nap", name="1ms"))

        async with serving(script) as app:
            lab.app = app.bus("order/paid")
            await lab.work()
            await lab.send("order/paid")
            assert await lab.output() == [{"data": "a"}, {"data": "b"}]
        assert saved == [200, 200, 200]
        told = app.calls[0]
        assert save(told, "late", told.ctx["qi_id"]) == 409
        assert save(told, "late", "nonsense") == 400
        assert site.get(f"/v0/runs/{told.ctx['run_id']}/actions").status_code == 410


@pytest.mark.parametrize("how", ["answers garbage", "is cancelled"])
async def test_what_an_app_saved_in_the_call_that_ends_its_run_is_not_kept_for_ever(lab: Lab, how: str) -> None:
    """The turn had not learned of it, and the end gave no expiry to what it did not know."""
    with TestClient(create_app(configured=lab.settings)) as site:
        saved = asyncio.Event()

        async def script(told: Told) -> Response:
            body = {"run_id": told.ctx["run_id"], "qi_id": told.ctx["qi_id"], "steps": [op("StepRun", "a", data=1)]}
            answer = await asyncio.to_thread(site.post, f"/v1/checkpoint/{told.ctx['run_id']}/async", json=body)
            assert answer.status_code == 200
            saved.set()
            if how == "is cancelled":
                await asyncio.Event().wait()
            return Response("<html>", 200)

        async with serving(script) as app:
            lab.app = app.bus("order/paid", retries=0)
            await lab.work()
            await lab.send("order/paid")
            await saved.wait()
            if how == "is cancelled":
                await cancel_now(lab.wire, (await lab.some())[0].id, "test")
            run = await lab.one()
    assert run.status == ("cancelled" if how == "is cancelled" else "failed")
    assert list(await lab.steps(run)) == ["a"]
    assert await lab.wire.call("PTTL", keys.steps(run.function, run.id)) > 0


async def test_steps_that_an_app_tells_of_with_its_result_are_recorded(lab: Lab) -> None:
    """As an SDK does that saves several steps together and has some left when the function returns."""

    def script(told: Told) -> Response:
        failed = op("StepFailed", "b", error={"name": "Boom", "message": "caught by the app"})
        return ops(op("StepRun", "a", data=1), failed, op("RunComplete", "end", data="done"))

    async with serving(script) as app:
        lab.app = app.bus("order/paid")
        await lab.work()
        await lab.send("order/paid")
        assert await lab.output() == "done"
        found = await lab.steps((await lab.runs())[0])
    assert {step: one.state for step, one in found.items()} == {"a": "completed", "b": "failed"}
    assert len(app.calls) == 1


async def test_an_app_that_is_down_uses_up_no_attempt(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepstream.consumers.remote.calls.client.Client.down_ms", lambda _: 400)

    def script(told: Told) -> Response:
        return returned(told.ctx["attempt"])

    async with serving(script) as app:
        await app.stop()
        lab.app = app.bus("order/paid", retries=0)
        await lab.work()
        await lab.send("order/paid")
        run = await lab.first()

        async def refused() -> bool:
            return "unreachable" in (await lab.hash((await lab.runs())[0])).get("error", "")

        await eventually(refused, "it was told that nobody listens")
        assert not await audit(lab.checker), "that it waits to be called is nothing to repair"
        await app.start()
        assert await lab.output() == 0
        assert (await lab.status(run, "completed")).crashes == 0


@pytest.mark.parametrize("kind", ["event", "signal"])
async def test_a_step_that_sends_what_its_sibling_waits_for_does_not_begin_before_the_wait_is_there(
    lab: Lab, kind: str
) -> None:
    """Else a moment in which the worker's Redis is slow, and that of the app is not, lets the run wait until its end."""
    waits = {
        "event": op("WaitForEvent", "w", opts={"event": "order/shipped", "timeout": "7d"}),
        "signal": op("WaitForSignal", "w", opts={"signal": "shipped", "timeout": "7d"}),
    }
    is_there: list[bool] = []

    async def script(told: Told) -> Response:
        if told.step != "step":
            key = keys.waits("order/shipped") if kind == "event" else keys.signal("shipped")
            is_there.append(bool(await lab.wire.call("EXISTS", key)))
            if is_there[-1]:
                await (lab.send("order/shipped") if kind == "event" else send_signal(lab.wire, "shipped", 1))
            return ops(op("StepRun", "p", data=1))
        if told.has("w"):
            return returned("both")
        if not told.has("p"):
            await lab.admin.call("CLIENT", "PAUSE", "300", "WRITE")
        return ops(op("StepPlanned", "p"), waits[kind])

    async with serving(script) as app:
        lab.app = app.bus("order/paid", retries=0)
        await lab.work()
        await lab.send("order/paid")

        async def called() -> bool:
            return bool(is_there)

        await eventually(called, "the step was called for")
        assert is_there == [True]
        assert await lab.output() == "both"


async def test_a_planned_step_whose_app_is_gone_does_not_wait_for_a_sibling_that_waits_for_days(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepstream.consumers.remote.calls.client.Client.down_ms", lambda _: 50)
    call, gone = Client.call, [True]

    async def called(client: Client, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        if sha("p") in url and gone:
            gone.clear()
            await eventually(lambda: has_waits(lab.wire, "order/shipped"), "its sibling waits")
            raise Unreachable("nobody listens")
        return await call(client, url, body, headers)

    monkeypatch.setattr("stepstream.consumers.remote.calls.client.Client.call", called)

    def script(told: Told) -> Response:
        if told.step != "step":
            return ops(op("StepRun", "p", data=told.ctx["attempt"]))
        wait = op("WaitForEvent", "w", opts={"event": "order/shipped", "timeout": "7d"})
        return ops(op("StepPlanned", "p"), wait) if not told.has("w") else returned(told.value("p"))

    async with serving(script) as app:
        lab.app = app.bus("order/paid", retries=0)
        await lab.work()
        await lab.send("order/paid")
        run = await lab.first()

        async def done() -> bool:
            found = await lab.steps((await lab.runs())[0])
            return "p" in {one.id for one in found.values() if one.state == "completed"}

        await eventually(done, "the planned step is done")
        await lab.status(run, "waiting")
        await lab.send("order/shipped")
        assert await lab.output() == {"data": 0}


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Response("<html>nginx</html>", 200, media_type="text/html"), "is not an SDK"),
        (Response("{", 206, SDK), "206 without operations"),
        (Response('{"a":NaN}', 200, SDK), "not JSON"),
        (Response("", 301, {"location": "https://elsewhere.example/"}), "status 301"),
        (Response("", 307, {"location": "https://elsewhere.example/"}), "redirects to another host"),
        (Response(b"x" * (9 * 1024 * 1024), 200, SDK), "output_too_large"),
        (Response("[" + ",".join([json.dumps(op("Nonsense", "a"))]) + "]", 206, SDK), "operation 'Nonsense'"),
        (Response(json.dumps({"name": "TypeError", "message": "x is undefined"}), 500, SDK), "x is undefined"),
    ],
)
async def test_an_answer_that_makes_no_sense_is_a_clear_error_of_the_run(lab: Lab, answer: Response, told: str) -> None:
    async with serving(lambda _: answer) as app:
        lab.app = app.bus("order/paid", retries=0)
        await lab.work()
        await lab.send("order/paid")
        run = await lab.one()
        assert run.status == "failed"
        assert run.error is not None
        assert told in run.error.told()


async def test_calls_one_after_another_use_one_connection(lab: Lab) -> None:
    async with serving(lambda _: returned(1)) as app:
        lab.app = app.bus("order/paid")
        await lab.work()
        for n in range(1, 4):
            await lab.send("order/paid")
            await lab.ended(n)
        assert len({one.connection for one in app.calls}) == 1


async def test_connections_that_nobody_uses_are_closed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepstream.consumers.remote.calls.opening.KEPT_S", 0.05)
    begun = asyncio.Barrier(3)

    async def script(_: Told) -> Response:
        await begun.wait()
        return returned(1)

    async with serving(script) as app:
        lab.app = app.bus("order/paid")
        worker = await lab.work()
        for _ in range(3):
            await lab.send("order/paid")
        await lab.ended(3)
        await lab.no_turns(worker)

        async def none_is_open() -> bool:
            assert app.server is not None
            return not app.server.server_state.connections

        await eventually(none_is_open, "no connection stays open")


@pytest.mark.parametrize(("says", "retries"), [({"x-inngest-no-retry": "true"}, 4), ({}, 0)])
async def test_a_final_error_in_place_of_a_step_ends_the_run_and_not_the_step(
    lab: Lab, says: dict[str, str], retries: int
) -> None:
    def script(told: Told) -> Response:
        if told.step == "step":
            return returned("went on") if told.has("p") else ops(op("StepPlanned", "p"), op("Sleep", "nap", name="10m"))
        error = {"name": "StepUnexpectedError", "message": "found step 'q'", "code": "step_unexpected"}
        return Response(json.dumps(error), 500, {**SDK, **says})

    async with serving(script) as app:
        lab.app = app.bus("order/paid", retries=retries)
        await lab.work()
        await lab.send("order/paid")
        run = await lab.one()
    assert (run.status, len(app.calls)) == ("failed", 2)
    assert run.error is not None
    assert run.error.told() == "StepUnexpectedError: found step 'q'"


async def test_an_invoke_that_timed_out_in_the_same_turn_is_told_as_a_timeout(lab: Lab) -> None:
    def script(told: Told) -> Response:
        if told.body["event"]["name"] != "order/paid":  # what it invokes
            return ops(op("Sleep", "nap", name="10m"))
        if told.has("i"):
            return returned(told.value("i")["error"]["name"])
        return ops(op("InvokeFunction", "i", opts={"function_id": "shop-f", "payload": {}, "timeout": "10ms"}))

    async with serving(script) as app:
        lab.app = app.bus("order/paid")
        await lab.work()
        await lab.send("order/paid")
        ended = await lab.status(await lab.first(), "completed")
        assert json.loads(bytes(ended.output or b"")) == "InngestInvokeTimeoutError"


async def test_a_call_has_an_id_and_says_whose_turn_it_is_where_sdks_look_for_it(lab: Lab) -> None:
    """`ctx.requestId` and `ctx.jobId` of the TypeScript SDK come from headers."""

    def script(told: Told) -> Response:
        return returned(1) if told.has("a") else ops(op("StepRun", "a", data=1))

    async with serving(script) as app:
        lab.app = app.bus("order/paid")
        await lab.work()
        await lab.send("order/paid")
        run = await lab.one()
    for told in app.calls:
        assert (told.headers["x-request-id"], told.headers["x-inngest-job-id"]) == (
            told.ctx["request_id"],
            told.ctx["job_id"],
        )
        assert told.ctx["job_id"].startswith(run.id)
    assert len({told.ctx["request_id"] for told in app.calls}) == len(app.calls) == 2


async def test_an_invoked_function_is_told_that_it_is_and_what_it_passes_on_is_its_own(lab: Lab) -> None:
    def script(told: Told) -> Response:
        data = told.body["event"]["data"]
        if data.get("left") == 0:
            return returned(data)
        if told.has("i"):
            return returned(told.value("i")["data"])
        left = data.get("left", 2) - 1
        return ops(
            op("InvokeFunction", "i", opts={"function_id": "shop-f", "payload": {"data": {**data, "left": left}}})
        )

    async with serving(script) as app:
        lab.app = app.bus("order/paid")
        await lab.work()
        await lab.send("order/paid", {"n": 1})
        runs = await lab.ended(3)
    assert all(
        json.loads(bytes(run.output or b"")) == {"n": 1, "left": 0, "_inngest": {"fn_id": "shop-f"}} for run in runs
    )
    told = [call.body["events"][0]["data"].get("_inngest") for call in app.calls]
    assert told[0] is None, "the event of a user has none"
    assert {json.dumps(one) for one in told[1:]} == {"null", '{"fn_id": "shop-f"}'}
    stored = {json.dumps(json.loads(bytes(run.event or b""))["data"], sort_keys=True) for run in runs}
    assert stored == {'{"n": 1}', '{"left": 1, "n": 1}', '{"left": 0, "n": 1}'}


async def test_a_wait_whose_signal_another_run_took_over_is_no_fault(lab: Lab) -> None:
    def script(told: Told) -> Response:
        if told.has("w"):
            return returned(told.value("w"))
        return ops(op("WaitForSignal", "w", opts={"signal": "s", "timeout": "1h", "conflict": "replace"}))

    async with serving(script) as app:
        lab.app = app.bus("order/paid")
        worker = await lab.work()
        runs: list[str] = []
        for n in range(1, 3):
            await lab.send("order/paid")
            runs = [one.id for one in await lab.some(n)]
            for run in runs:
                await lab.status(run, "waiting")
        await lab.no_turns(worker)
        assert not await audit(lab.checker)
        assert await send_signal(lab.wire, "s", 5) == runs[0], "the newest has it"
        await lab.status(runs[0], "completed")
        await lab.no_turns(worker)
        assert not await audit(lab.checker), "the other waits on without it, to its own deadline"
        assert await send_signal(lab.wire, "s", 6) is None
        lost = keys.signal_lost("s", f"shop-f|{runs[1]}|w")
        assert 0 < await lab.wire.call("PTTL", lost) <= 3_600_000
        await lab.wire.call("DEL", lost)
        assert [one.words for one in await audit(lab.checker)] == [
            f"step w of run {runs[1]} waits, and nobody knows: the signal it waits for is gone"
        ], "one that nobody took is told of"
        await cancel_now(lab.wire, runs[1], "by the test")


async def test_a_run_goes_on_by_the_rules_of_whatever_sdk_is_deployed_meanwhile(lab: Lab) -> None:
    """Version 1 is asked again after each planned step, version 2 when all have ended; ids are the same in both."""
    deployed = ["1"]
    at_work = asyncio.Barrier(2)

    def found(told: Told, version: str) -> Response:
        planned = [one for one in ("p", "q") if not told.has(one)]
        if told.step != "step":
            ran = next(one for one in planned if told.step == sha(one))
            return ops(op("StepRun", ran, data=ran), x_inngest_req_version=version)
        return ops(*[op("StepPlanned", one) for one in planned], x_inngest_req_version=version)

    async def script(told: Told) -> Response:
        if not told.has("a"):
            return ops(op("StepRun", "a", data="of v3"), x_inngest_req_version=deployed[0])
        if not told.has("nap"):
            deployed[0] = "2"
            return ops(op("Sleep", "nap", name="10ms"), x_inngest_req_version="1")
        if told.step != "step":
            await at_work.wait()  # both calls are open
        if told.has("p") and told.has("q"):
            return returned([told.value(one)["data"] for one in ("a", "p", "q")])
        return found(told, deployed[0])

    async with serving(script) as app:
        lab.app = app.bus("order/paid")
        await lab.work()
        await lab.send("order/paid")
        assert await lab.output() == ["of v3", "p", "q"]
    asked = [(one.step, one.headers["x-inngest-req-version"]) for one in app.calls]
    assert asked[:2] == [("step", "-1"), ("step", "1")]
    assert asked[2] == ("step", "-1"), "a new turn asks for the version that is deployed now"
    assert sorted(asked[3:5]) == sorted([(sha("p"), "2"), (sha("q"), "2")])
    assert asked[5:] == [("step", "2")], "it is asked once when both have ended"
