"""Workers follow applications behind HTTP: new functions, a new address, functions that are gone; and they are synced."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import anyio
import httpx2
import msgspec
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stepstream import Bus, Context, Step, create_app
from stepstream.bus.errors import ConfigError, InUse, NotFound
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.actions.forget import forget_app
from stepstream.checkpoint.apps import App, app_of, apps, put, the_app
from stepstream.checkpoint.facts.workers import workers_told
from stepstream.checkpoint.registry import functions, workers_of
from stepstream.checkpoint.waits.event_waits import has_waits
from stepstream.consumers.following import RemoteWorkers
from stepstream.consumers.remote.functions import bus_of
from stepstream.consumers.remote.registration.take_in import take_in
from stepstream.consumers.worker import Worker
from stepstream.web.sdk.sync import Syncing, Trouble, complete, sync
from tests.scripted_app import ScriptedApp, Told, returned, serving
from tests.support import Lab, eventually, free_port

SDK = {"x-inngest-sdk": "inngest-js:v4.24.0"}


def asked(url: str, functions: dict[str, str]) -> dict[str, Any]:
    return {
        "url": url, "appName": "shop", "sdk": "js:v4.24.0", "framework": "express",
        "functions": [
            {
                "id": f"shop-{id}", "triggers": [{"event": event}] if event else [],
                "steps": {"step": {"runtime": {"type": "http", "url": f"{url}?fnId=shop-{id}&stepId=step"}}},
            }
            for id, event in functions.items()
        ],
    }  # fmt: skip


async def registered(lab: Lab, url: str, **functions: str) -> App:
    app, _ = await take_in(lab.wire, asked(url, functions))
    lab.app = bus_of(app)
    lab.app.connect(lab.wire)
    return app


@contextlib.asynccontextmanager
async def following(lab: Lab) -> AsyncGenerator[RemoteWorkers]:
    workers = RemoteWorkers(lab.settings, 20)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(workers.run)
        await workers.ready.wait()
        yield workers
        workers.stop()


def named(told: Told) -> Response:
    return returned(told.function)


async def at_work(lab: Lab, app: App) -> None:
    """Wait until a worker has the functions of an application as they are now."""

    async def look() -> bool:
        counts = [await workers_of(lab.wire, slug) for slug in app.functions]
        return all(count == 1 for count in counts)

    await eventually(look, "one worker each")


async def test_functions_that_are_registered_run_and_new_ones_too_without_a_restart(lab: Lab) -> None:
    async with serving(named) as app, following(lab) as workers:
        assert workers.names == []
        await registered(lab, app.url, a="order/paid")
        await lab.send("order/paid")
        assert await lab.output() == "shop-a"
        await registered(lab, app.url, a="order/paid", b="order/lost")
        await lab.send("order/lost")
        [*_, last] = await lab.ended(2)
        assert {run.function for run in await lab.runs()} == {"shop-a", "shop-b"}, last
        assert workers.names == ["shop"]


async def test_a_call_that_is_open_goes_on_while_its_function_is_replaced(lab: Lab) -> None:
    answer = asyncio.Event()

    async def script(told: Told) -> Response:
        if told.function == "shop-a":
            await answer.wait()
        return returned(told.function)

    async with serving(script) as app, following(lab):
        await at_work(lab, await registered(lab, app.url, a="order/paid", b="order/lost"))
        await lab.send("order/paid")
        await eventually(lambda: _called(app), "it is called")
        await eventually(lambda: _is_held(lab, "shop-a"), "its worker tells that it has it in hand")
        await registered(lab, app.url, a="order/paid", b="order/found")
        await lab.send("order/found")  # the new worker is at work beside the call
        await eventually(lambda: _ended(lab, "shop-b"), "the new function has run")
        await lab.send("order/lost")
        answer.set()
        assert {run.function: run.status for run in await lab.ended(2)} == {
            "shop-a": "completed",
            "shop-b": "completed",
        }
        assert [told.function for told in app.calls] == ["shop-a", "shop-b"], "none was called twice"
        await at_work(lab, await the_app(lab.wire, "shop"))  # the old one has left


async def _called(app: ScriptedApp) -> bool:
    return bool(app.calls)


async def _is_held(lab: Lab, slug: str) -> bool:
    return any(one.function == slug for worker in await workers_told(lab.wire) for one in worker.held)


async def _retired(workers: RemoteWorkers) -> bool:
    return any(member.is_retired for member in workers._retired)


async def _ended(lab: Lab, slug: str) -> bool:
    return any(run.function == slug and run.has_ended for run in await lab.runs())


@pytest.mark.leaves_behind("its worker went while it was called: the next one goes on")
async def test_a_worker_that_had_all_the_time_ends_in_that_of_the_drain_when_it_is_told_to_stop(lab: Lab) -> None:
    never = asyncio.Event()

    async def script(told: Told) -> Response:
        await never.wait()
        return returned(told.function)

    lab.settings = msgspec.structs.replace(lab.settings, drain_ms=200)
    async with serving(script) as app:
        async with following(lab) as workers:
            await at_work(lab, await registered(lab, app.url, a="order/paid"))
            await lab.send("order/paid")
            await eventually(lambda: _called(app), "it is called")
            await registered(lab, app.url, b="order/lost")
            await eventually(lambda: _retired(workers), "the worker that calls it has retired")
        assert workers.left == 1
        never.set()


async def test_runs_in_flight_are_called_at_the_new_address(lab: Lab) -> None:
    def waiting(told: Told) -> Response:
        opts = {"event": "order/back", "timeout": "1h"}
        wait = {"op": "WaitForEvent", "id": "b" * 40, "name": "w", "opts": opts, "userland": {"id": "w"}}
        return Response(json.dumps([wait]), 206, {**SDK, "x-inngest-req-version": "2"})

    async with serving(waiting) as old, serving(named) as new, following(lab):
        await at_work(lab, await registered(lab, old.url, a="order/paid"))
        await lab.send("order/paid")
        await eventually(lambda: has_waits(lab.wire, "order/back"), "it waits")
        await lab.status(await lab.first(), "waiting")
        await old.stop()
        app = await registered(lab, new.url, a="order/paid")
        assert app.note == f"was at {old.url} before: should both run, give one another id"
        await lab.send("order/back")
        assert await lab.output() == "shop-a"
        assert [told.step for told in new.calls] == ["step"]


async def test_a_function_that_is_gone_starts_no_more_but_its_runs_end(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepstream.consumers.following._CLEAR_S", 0.05)
    answer = asyncio.Event()

    async def script(told: Told) -> Response:
        await answer.wait()
        return returned(told.function)

    async with serving(script) as app, following(lab) as workers:
        await at_work(lab, await registered(lab, app.url, a="order/paid", b="order/lost"))
        await lab.send("order/paid")
        await eventually(lambda: _called(app), "it is called")
        await registered(lab, app.url, b="order/lost")
        await eventually(lambda: _retired(workers), "the worker that starts it reads no more")
        there = await the_app(lab.wire, "shop")
        assert (set(there.functions), set(there.archived)) == ({"shop-b"}, {"shop-a"})
        known = {one.slug: one for one in await functions(lab.wire)}
        assert (known["shop-a"].events, known["shop-a"].name) == ((), "a (removed from the application)")
        await lab.send("order/paid")
        answer.set()
        assert (await lab.one()).status == "completed"

        async def is_cleared() -> bool:
            return not (await the_app(lab.wire, "shop")).archived

        await eventually(is_cleared, "nothing of it goes on")


async def test_an_app_that_is_taken_in_while_workers_stop_keeps_nobody_from_ending(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker was begun behind the stop, and told by nobody: the process did not end."""
    workers = RemoteWorkers(lab.settings, 20)

    async def stopped_meanwhile(wire: Wire) -> list[App]:
        found = await apps(wire)
        if found:
            workers.stop()
        return found

    monkeypatch.setattr("stepstream.consumers.following.apps", stopped_meanwhile)
    async with serving(named) as app:
        running = asyncio.create_task(workers.run())
        await workers.ready.wait()
        await registered(lab, app.url, a="order/paid")
        await running


async def test_an_app_is_forgotten_with_its_runs(lab: Lab) -> None:
    async with serving(named) as app, following(lab) as workers:
        await at_work(lab, await registered(lab, app.url, a="order/paid"))
        await lab.send("order/paid")
        await lab.one()
        assert await forget_app(lab.wire, "shop") == ["shop-a"]
        assert (await apps(lab.wire), await functions(lab.wire), workers.names) == ([], [], [])
        with pytest.raises(NotFound, match="app 'shop' is not registered; there are none"):
            await forget_app(lab.wire, "shop")
        await at_work(lab, await registered(lab, app.url, a="order/paid"))  # and comes back
        await lab.send("order/paid")
        await lab.one()


async def test_an_app_with_runs_that_have_not_ended_is_not_forgotten_by_accident(lab: Lab) -> None:
    answer = asyncio.Event()

    async def script(told: Told) -> Response:
        await answer.wait()
        return returned(1)

    async with serving(script) as app, following(lab):
        await at_work(lab, await registered(lab, app.url, a="order/paid"))
        await lab.send("order/paid")
        await eventually(lambda: _called(app), "it is called")
        with pytest.raises(InUse, match="'shop-a' has 1 run"):
            await forget_app(lab.wire, "shop")
        answer.set()
        await lab.one()


async def test_what_another_version_of_ours_has_registered_stops_no_other(lab: Lab) -> None:
    def odd(_: App | None) -> App:
        return App(name="odd", url="http://localhost:1", version=1, functions={"odd-a": {"id": 7}})

    await put(lab.wire, "odd", odd)
    await lab.wire.call("HSET", "bus:apps", "broken", "{")
    async with serving(named) as app, following(lab) as workers:
        await registered(lab, app.url, a="order/paid")
        await lab.send("order/paid")
        assert await lab.output() == "shop-a"
        assert workers.names == ["shop"]


# -- sync ---------------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def listening(site: Any, port: int) -> AsyncIterator[str]:
    server = uvicorn.Server(uvicorn.Config(site, port=port, log_level="critical", timeout_graceful_shutdown=1))
    running = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await running


def an_app(here: str, site: str, *, hands_on: bool = False, **events: str) -> Starlette:
    """An application whose SDK registers while it is asked to; `hands_on` our answer as its own, whatever that is."""

    async def serve(request: Request) -> Response:
        assert request.headers["x-inngest-server-kind"] == "dev"
        async with httpx2.AsyncClient(trust_env=False, verify=False) as client:
            answer = await client.post(f"{site}/fn/register", json=asked(f"{here}/api/inngest", events))
        told = answer.json()
        if hands_on:  # as the Python SDK does
            return JSONResponse(told, 200, SDK)
        body = {"message": told.get("error") or "Successfully registered", "modified": told.get("modified", False)}
        return JSONResponse(body, 200 if answer.status_code == 200 else 500, SDK)

    return Starlette(routes=[Route("/api/inngest", serve, methods=["PUT"])])


async def test_an_app_is_asked_to_register_and_followed_when_it_comes_back(lab: Lab) -> None:
    port = free_port()
    here = f"http://127.0.0.1:{port}"
    site = create_app(configured=lab.settings)
    async with listening(site, free_port()) as ours:
        trouble = await sync(lab.wire, here)
        assert isinstance(trouble, Trouble)
        assert trouble.code == "unreachable"
        [nameless] = await apps(lab.wire)
        assert (nameless.name, nameless.version) == (f"{here}/api/inngest", 0)
        assert "is it started?" in nameless.error
        syncing = Syncing(site.state.store, [f"localhost:{port}"], follows=False)
        async with listening(an_app(here, ours, a="order/paid"), port):
            await syncing._once()
            [app] = await apps(lab.wire)
            assert (app.name, app.version, app.is_healthy, set(app.functions)) == ("shop", 1, True, {"shop-a"})
        gone = await sync(lab.wire, here)
        assert isinstance(gone, Trouble)
        down = await the_app(lab.wire, "shop")
        assert (down.error_code, set(down.functions), down.version) == ("unreachable", {"shop-a"}, 1)
        async with listening(an_app(here, ours, a="order/paid"), port):
            await syncing._once()  # an app in trouble is asked again, whoever named it
            back = await the_app(lab.wire, "shop")
            assert (back.error, back.version) == ("", 1), "nothing has changed"
        async with listening(an_app(here, ours, a="order/paid", b="order/lost"), port):
            await Syncing(site.state.store, [], follows=True)._once()
            assert set((await the_app(lab.wire, "shop")).functions) == {"shop-a", "shop-b"}
        async with listening(an_app(here, ours, a="order/*d"), port):
            refused = await sync(lab.wire, here)
            assert isinstance(refused, Trouble)
            assert refused.code == "invalid_function", "what the registration said is told, not that the app failed"
            assert "a wildcard stands at the end" in refused.words
        async with listening(an_app(here, ours, hands_on=True, a="order/*d"), port):
            assert await sync(lab.wire, here) == refused, "a refusal that its SDK hands on as a success is one"
        async with listening(an_app(here, ours, hands_on=True, a="order/paid"), port):
            assert not isinstance(await sync(lab.wire, here), Trouble)


@pytest.mark.parametrize(
    ("status", "body", "headers", "code"),
    [
        (200, "hello", {}, "not_an_sdk"),
        (200, "{}", SDK, "registered_elsewhere"),
        (200, '{"error":"Authentication failed","status":401}', SDK, "unauthorized"),
        (404, "", {}, "url_not_found"),
        (401, "", {}, "unauthorized"),
        (403, "", {}, "forbidden"),
        (500, "<html>", {}, "internal_server_error"),
        (302, "", {"location": "/"}, "bad_response"),
        (400, '{"message":"Invalid signing key"}', SDK, "invalid_signing_key"),
        (400, '{"message":"No functions registered"}', SDK, "no_functions"),
        (400, '{"message":"it is Monday"}', SDK, "bad_request"),
    ],
)
async def test_what_an_app_answers_is_told_with_a_code_and_what_to_do(
    lab: Lab, status: int, body: str, headers: dict[str, str], code: str
) -> None:
    async def serve(request: Request) -> Response:
        return Response(body, status, headers)

    async with listening(Starlette(routes=[Route("/api/inngest", serve, methods=["PUT"])]), free_port()) as here:
        found = await sync(lab.wire, f"{here}/api/inngest?fnId=x&stepId=step")
        assert isinstance(found, Trouble)
        assert (found.code, bool(found.words)) == (code, True)
        told = await app_of(lab.wire, f"{here}/api/inngest")
        assert told is not None
        assert (told.error_code, told.error) == found


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("127.0.0.1:3000", "http://127.0.0.1:3000/api/inngest"),
        ("http://shop.example:80/", "http://shop.example/api/inngest"),
        ("https://shop.example:443/x/inngest?fnId=a&tenant=1", "https://shop.example/x/inngest?tenant=1"),
        ("http://0.0.0.0:3000/api/inngest", "http://127.0.0.1:3000/api/inngest"),
    ],
)
def test_where_an_app_is_asked(given: str, url: str) -> None:
    assert complete(given) == url


async def test_a_failure_is_told_to_the_function_for_it_as_its_sdk_knows_it(lab: Lab) -> None:
    def script(told: Told) -> Response:
        if told.function == "shop-a":
            error = {"name": "Boom", "message": "it broke", "stack": "line 3"}
            return Response(json.dumps(error), 400, {**SDK, "x-inngest-no-retry": "true"})
        return returned(told.body["event"])

    async with serving(script) as app, following(lab):
        registering = asked(app.url, {"a": "order/paid", "other": "order/none", "a-failure": ""})
        trigger = {"event": "inngest/function.failed", "expression": "event.data.function_id == 'shop-a'"}
        registering["functions"][-1]["triggers"] = [trigger]
        there, _ = await take_in(lab.wire, registering)
        lab.app = bus_of(there)
        lab.app.connect(lab.wire)
        await at_work(lab, there)
        await lab.send("order/paid", {"order": 7})
        runs = {run.function: run for run in await lab.ended(2)}
        told = json.loads(bytes(runs["shop-a-failure"].output or b"null"))
        assert (told["name"], told["data"]["function_id"]) == ("inngest/function.failed", "shop-a")
        assert told["data"]["run_id"] == runs["shop-a"].id
        assert (told["data"]["event"]["data"], told["data"]["event"]["user"]) == ({"order": 7}, {})
        assert {name: told["data"]["error"][name] for name in ("name", "message")} == {
            "name": "Boom",
            "message": "it broke",
        }
        assert told["data"]["_inngest"] == {"status": "Failed"}


async def test_an_event_that_is_waited_for_may_be_asked_for_as_their_server_understands_it(lab: Lab) -> None:
    def script(told: Told) -> Response:
        if not told.steps:
            opts = {
                "event": "order/back",
                "timeout": "1h",
                "if": "async.data.why || async.data.note != event.data.note",
            }
            wait = {"op": "WaitForEvent", "id": "b" * 40, "name": "w", "opts": opts, "userland": {"id": "w"}}
            return Response(json.dumps([wait]), 206, {**SDK, "x-inngest-req-version": "2"})
        [value] = told.steps.values()
        return returned(value["data"])

    async with serving(script) as app, following(lab):
        await at_work(lab, await registered(lab, app.url, a="order/paid"))
        await lab.send("order/paid", {"note": "n"})
        run = await lab.first()
        await eventually(lambda: has_waits(lab.wire, "order/back"), "it waits")
        await lab.status(run, "waiting")
        await lab.send("order/back", {"note": "n"})
        await lab.send("order/back", {"note": "n", "why": "late"})
        assert await lab.output() == {"note": "n", "why": "late"}


async def test_a_python_application_does_not_take_the_functions_of_one_behind_http(lab: Lab) -> None:
    async with serving(named) as app, following(lab):
        await at_work(lab, await registered(lab, app.url, a="order/paid"))
        taking = Bus("shop")

        @taking.function("a", on="order/paid")
        async def a(ctx: Context[dict], step: Step) -> None: ...

        with pytest.raises(ConfigError, match="belongs to the application behind HTTP 'shop' already"):
            await Worker(taking, settings=lab.settings).run()
        assert [one.remote for one in await functions(lab.wire)] == [True]


async def test_an_app_with_a_new_id_takes_the_place_of_the_old_one_at_its_address(lab: Lab) -> None:
    async with serving(named) as app, following(lab) as workers:
        await at_work(lab, await registered(lab, app.url, a="order/paid"))
        renamed = asked(app.url, {"a": "order/paid"})
        renamed["appName"], renamed["functions"][0]["id"] = "store", "store-a"
        there, _ = await take_in(lab.wire, renamed)
        former = await the_app(lab.wire, "shop")
        assert (former.functions, former.error_code) == ({}, "replaced")
        assert "forget this one: bus apps forget shop" in former.error
        await eventually(lambda: _retired_all(workers), "the worker of the old one has gone")
        lab.app = bus_of(there)
        lab.app.connect(lab.wire)
        await at_work(lab, there)
        await lab.send("order/paid")
        assert (await lab.one()).function == "store-a"
        site = create_app(configured=lab.settings)
        await Syncing(site.state.store, [], follows=False)._once()  # the old one is not asked
        assert (await the_app(lab.wire, "shop")).error_code == "replaced"
        await site.close()
        assert await forget_app(lab.wire, "shop") == ["shop-a"]


async def _retired_all(workers: RemoteWorkers) -> bool:
    return not workers._retired and workers.names == ["shop", "store"]


async def test_an_app_comes_back_when_redis_was_wiped(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepstream.consumers.following._CLEAR_S", 0.05)
    async with serving(named) as app, following(lab) as workers:
        before = await registered(lab, app.url, a="order/paid")
        await at_work(lab, before)
        await lab.admin.call("FLUSHALL")

        async def is_back() -> bool:
            found = await app_of(lab.wire, "shop")
            return found is not None and workers.names == ["shop"]

        await eventually(is_back, "it is put back")
        assert await the_app(lab.wire, "shop") == before
        await take_in(lab.wire, asked(app.url, {"a": "order/paid", "b": "order/lost"}))
        await eventually(lambda: _called_b(lab, app), "its new function runs")


async def _called_b(lab: Lab, app: ScriptedApp) -> bool:
    lab.app = bus_of(await the_app(lab.wire, "shop"))
    lab.app.connect(lab.wire)
    if not any(told.function == "shop-b" for told in app.calls):
        await lab.send("order/lost")
        await asyncio.sleep(0.05)
    return any(told.function == "shop-b" for told in app.calls)


async def test_an_app_on_this_machine_is_found_when_none_is_named(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    sdks, others, closed = free_port(), free_port(), free_port()
    monkeypatch.setattr("stepstream.web.sdk.discovery.PORTS", (closed, others, sdks))
    site = create_app(configured=lab.settings)
    asks: list[str] = []

    async def other(request: Request) -> Response:
        asks.append(f"{request.method} {request.url.path}")
        return JSONResponse({})

    async with listening(site, free_port()) as ours, listening(other_app(other), others):
        app = an_app(f"http://127.0.0.1:{sdks}", ours, a="order/paid")
        app.add_route("/api/inngest", lambda _: JSONResponse({"mode": "dev"}, headers=SDK), methods=["GET"])
        async with listening(app, sdks):
            syncing = Syncing(site.state.store, [], follows=True, discovers=True)
            await syncing._once()
            assert [one.name for one in await apps(lab.wire)] == ["shop"]
            looked = len(asks)
            assert looked == 4
            assert all(ask.startswith("GET ") for ask in asks), "what is no SDK is asked for nothing"
            await syncing._once()
            assert len(asks) == looked, "nobody is looked for any more"


def other_app(other: Any) -> Starlette:
    return Starlette(routes=[Route("/{path:path}", other, methods=["GET", "PUT", "POST"])])


async def _error_of(lab: Lab, name: str) -> bool:
    runs = await lab.runs()
    error = json.loads((await lab.hash(runs[0])).get("error", "{}")) if runs else {}
    return runs[0].status == "waiting" and error.get("name") == name if runs else False


@pytest.mark.parametrize("is_another_version", [False, True])
async def test_runs_that_wait_for_an_app_go_on_when_it_speaks(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, *, is_another_version: bool
) -> None:
    """They slept on, up to a minute and a half, while the application was back and idle."""
    monkeypatch.setattr("stepstream.consumers.remote.calls.client.Client.down_ms", lambda _: 600_000)
    async with serving(named) as app, following(lab):
        await at_work(lab, await registered(lab, app.url, a="order/paid"))
        await app.stop()
        await lab.send("order/paid")
        await eventually(lambda: _error_of(lab, "unreachable"), "the run waits for the application")
        await app.start()
        await registered(lab, app.url, a="order/paid", **({"b": "order/lost"} if is_another_version else {}))
        assert await lab.output() == "shop-a"


async def test_a_run_whose_call_broke_goes_on_when_the_app_is_back_and_not_each_time_it_speaks(lab: Lab) -> None:
    """It waited for its backoff, 20 s and more, though the application that it had gone with was there again."""
    breaks = [True]

    def script(told: Told) -> Response:
        return Response("cut", headers={**SDK, "content-length": "100"}) if breaks else returned(told.ctx["attempt"])

    async with serving(script) as app, following(lab):
        registering = asked(app.url, {"a": "order/paid"})
        registering["functions"][0]["steps"]["step"]["retries"] = {"attempts": 2, "backoff": ["600s"]}
        there, _ = await take_in(lab.wire, registering)
        lab.app = bus_of(there)
        lab.app.connect(lab.wire)
        await at_work(lab, there)
        await lab.send("order/paid")
        await eventually(lambda: _error_of(lab, "call_broken"), "the call broke")
        breaks.clear()
        run = (await lab.runs())[0]
        due = await _due(lab, run.id)
        await take_in(lab.wire, registering)
        assert await _due(lab, run.id) == due, "it keeps to its backoff: the application may have died of its call"
        await put(
            lab.wire, "shop", lambda one: one and msgspec.structs.replace(one, error="gone", error_code="unreachable")
        )
        await take_in(lab.wire, registering)
        assert await lab.output() == 1


async def _due(lab: Lab, run: str) -> int:
    turn = (await lab.hash((await lab.runs())[0]))["turn"]
    return int(await lab.wire.call("ZSCORE", keys.timers("shop-a", run), f"{run}:{turn}"))
