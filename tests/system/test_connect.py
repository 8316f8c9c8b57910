"""Connected workers: applications whose calls go through WebSockets that they have opened, by way of Redis."""

import asyncio
import contextlib
import json

import httpx2
import msgspec
import pytest
import redis
import websockets

from stepstream.bus.errors import ConfigError
from stepstream.bus.settings import Settings
from stepstream.bus.trust.signing import hashed
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.apps import app_of
from stepstream.checkpoint.connections.workers import workers
from stepstream.consumers.remote.calls.connected import ConnectedClient
from stepstream.consumers.remote.calls.post import CallBroken, Unreachable
from stepstream.consumers.remote.functions import bus_of, connected_url
from stepstream.consumers.remote.protocol import Answer
from stepstream.web.connect.messages import (
    PROTOCOL,
    AuthData,
    Frame,
    Kind,
    ReplyAck,
    Status,
    SyncFailed,
)
from stepstream.web.sdk.cli import apps
from tests.scripted_app import op, sha
from tests.scripted_worker import Call, ScriptedWorker, Site, connected, site
from tests.support import Lab, eventually

SIGNING = f"signkey-test-{'a' * 64}"
HEADERS = {"x-inngest-step-id": "step", "x-run-id": "r1"}
SHOP = f"{connected_url('shop')}?fnId=shop-f"


@contextlib.asynccontextmanager
async def calling(wire: Wire):
    client = ConnectedClient(wire)

    def call(url: str = SHOP) -> "asyncio.Task[Answer]":
        body = json.dumps({"steps": {}, "ctx": {}}).encode()
        return asyncio.create_task(client.call(url, body, HEADERS))

    try:
        yield call
    finally:
        await client.close()


async def registered(lab: Lab) -> None:
    """Let the lab have the functions of the worker's application."""
    app = await app_of(lab.wire, "shop")
    assert app is not None
    lab.app = bus_of(app)
    await lab.work()


async def test_a_run_goes_through_the_workers_that_are_connected(lab: Lab) -> None:
    async def script(call: Call) -> None:
        if sha("a") not in call.steps:
            await call.ops(op("StepRun", "a", data={"x": 1}))
        else:
            await call.returns([call.steps[sha("a")], call.request.app_name, call.request.function_slug])

    async with site(lab.settings) as here, connected(here.url, script):
        await registered(lab)
        await lab.send("order/paid", {"n": 1})
        assert await lab.output() == [{"data": {"x": 1}}, "shop", "shop-f"]
        run = (await lab.runs())[0]
        assert list(await lab.steps(run)) == ["a"]
        app = await app_of(lab.wire, "shop")
        assert app is not None
        assert (app.url, app.sdk, app.framework, app.app_version) == ("connect://shop", "js:v4.24.0", "connect", "7")


async def test_redis_tells_who_is_connected_and_what_each_has_in_hand(wire: Wire, settings: Settings) -> None:
    async with site(settings) as here, connected(here.url, max_worker_concurrency=3) as worker, calling(wire) as call:
        asked = call()
        got = await worker.call()
        await got.ack()

        async def in_hand() -> dict[str, str]:
            return (await workers(wire, "shop"))[0].calls

        assert await eventually(in_hand, "it has the call in hand") == {got.request.request_id: "shop-f r1"}
        (told,) = await workers(wire, "shop")
        assert (told.gateway, told.instance, told.capacity, told.sdk) == (here.gateway.id, "one", 3, "js:v4.24.0")
        async with httpx2.AsyncClient(base_url=here.url) as http:
            listed = (await http.get("/v0/connect/envs/any/conns")).json()
        assert listed == {
            "data": [
                {
                    "id": told.connection, "gateway_id": here.gateway.id, "instance_id": "one", "status": 1,
                    "sdk_language": "js", "sdk_version": "v4.24.0", "app_names": ["shop"],
                }
            ]
        }  # fmt: skip
        await worker.say(Kind.REPLY, got.response(1))
        assert (await asked).body == b"1"
        assert await worker.acked() == got.request.request_id
        assert (await workers(wire, "shop"))[0].calls == {}
    assert await workers(wire, "shop") == []


async def test_a_call_of_an_app_without_workers_reaches_nobody_and_uses_no_attempt(lab: Lab) -> None:
    async with site(lab.settings) as here:
        async with connected(here.url):
            pass

        async def left() -> bool:
            return await workers(lab.wire, "shop") == []

        await eventually(left, "it has left")
        await registered(lab)
        await lab.send("order/paid")
        run = await lab.status(await lab.first(), "waiting")
        assert (await lab.hash(run)).get("attempt", "0") == "0"
        async with calling(lab.wire) as call:
            with pytest.raises(Unreachable, match="no worker of it is connected"):
                await call()


async def test_a_worker_is_given_no_more_calls_than_it_has_room_for(wire: Wire, settings: Settings) -> None:
    async with (
        site(settings) as here, connected(here.url, max_worker_concurrency=1) as one, calling(wire) as call,
    ):  # fmt: skip
        first, second = call(), call()
        got = await one.call()
        await got.ack()
        assert one.calls.empty()
        async with connected(here.url, max_worker_concurrency=1) as other:
            await (await other.call()).returns("other")  # it has come, and has room
            third = call()
            await (await other.call()).returns("again")
            await one.say(Kind.REPLY, got.response("one"))
            assert sorted([(await one_of).body for one_of in (first, second, third)]) == [
                b'"again"',
                b'"one"',
                b'"other"',
            ]


async def test_a_call_that_a_worker_does_not_take_in_hand_is_given_to_another(wire: Wire, settings: Settings) -> None:
    async with site(settings) as here, connected(here.url) as deaf, calling(wire) as call:
        asked = call()
        await deaf.call()
        await deaf.say(Kind.WORKER_PAUSE)
        async with connected(here.url) as other:
            await (await other.call()).returns("other")
            assert (await asked).body == b'"other"'


async def test_a_call_that_nobody_began_moves_at_once_from_a_worker_that_dies(wire: Wire, settings: Settings) -> None:
    async with site(settings) as here, calling(wire) as call, connected(here.url, max_worker_concurrency=1) as one:
        asked = call()
        await one.call()
        async with connected(here.url) as other:
            await one.die()
            await (await other.call()).returns("other")
        assert (await asked).body == b'"other"'


async def test_a_lost_worker_s_call_is_tried_elsewhere_and_steps_that_are_done_are_kept(lab: Lab) -> None:
    async with site(lab.settings) as here, connected(here.url) as one:
        await registered(lab)
        await lab.send("order/paid")
        await (await one.call()).ops(op("StepRun", "a", data=1))
        second = await one.call()
        await second.ack()
        async with connected(here.url) as other:
            await one.die()
            again = await other.call()
            assert again.steps == {sha("a"): {"data": 1}}
            assert again.body["ctx"]["attempt"] == 1
            await again.returns("done")
            assert await lab.output() == "done"


async def test_a_worker_keeps_its_call_through_another_connection_and_gateway(wire: Wire, settings: Settings) -> None:
    async with site(settings) as here, site(settings) as there, calling(wire) as call:
        async with connected(here.url) as before:
            asked = call()
            got = await before.call()
            await got.ack()
            await before.die()
        async with connected(there.url) as after:
            for _ in range(5):  # longer than the lease that it had
                await after.say(Kind.EXTEND_LEASE, got.request)  # it has the id in the same field
                assert await after.lease()
                await asyncio.sleep(1)
            await after.say(Kind.REPLY, got.response("kept"))
            assert (await asked).body == b'"kept"'


async def test_a_reply_that_its_connection_could_not_carry_comes_over_http(wire: Wire, settings: Settings) -> None:
    async with site(settings) as here, calling(wire) as call, connected(here.url) as worker:
        asked = call()
        got = await worker.call()
        await got.ack()
        await worker.die()
        async with httpx2.AsyncClient(base_url=here.url) as http:
            sent = got.response("late", Status.ERROR, no_retry=True, retry_after="30").encoded()
            for _ in range(2):  # nobody waits for the second, which does no harm
                answer = await http.post("/v0/connect/flush", content=sent)
                assert ReplyAck.decoded(answer.content).request_id == got.request.request_id
                told = await asked
            assert (told.status, told.is_final, told.headers["retry-after"], told.version) == (500, True, "30", 2)
            assert (await http.post("/v0/connect/flush", content=b"\xff\xff")).status_code == 400


async def test_a_call_that_nobody_waits_for_any_more_is_not_held(wire: Wire, settings: Settings) -> None:
    async with site(settings) as here, calling(wire) as call, connected(here.url) as worker:
        asked = call()
        got = await worker.call()
        await got.ack()
        await got.extend()
        assert await worker.lease()
        asked.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asked

        async def is_taken_back() -> bool:
            await got.extend()
            return not await worker.lease()

        await eventually(is_taken_back, "nobody waits for the call")
        await worker.say(Kind.REPLY, got.response("in vain"))
        assert await worker.acked(), "so that it is not sent again"


async def test_calls_of_a_function_go_to_workers_that_have_it(wire: Wire, settings: Settings) -> None:
    both = ("shop-f", "shop-g")
    async with (
        site(settings) as here, connected(here.url) as old, connected(here.url, slugs=both) as new, calling(wire) as call,
    ):  # fmt: skip
        asked = [call(f"{connected_url('shop')}?fnId=shop-g") for _ in range(4)]
        for _ in asked:
            await (await new.call()).returns("g")
        assert {(await one).body for one in asked} == {b'"g"'}
        assert old.calls.empty()


async def test_a_function_that_is_refused_for_good_fails_as_over_http(wire: Wire, settings: Settings) -> None:
    async with site(settings) as here, connected(here.url) as worker, calling(wire) as call:
        asked = call()
        got = await worker.call()
        await got.ack()
        await worker.say(Kind.REPLY, got.response({"name": "Error", "message": "never"}, Status.DONE, no_retry=True))
        told = await asked
        assert (told.status, told.is_final, told.is_sdk) == (400, True, True)


async def test_a_worker_that_pauses_or_is_not_ready_gets_no_calls(wire: Wire, settings: Settings) -> None:
    async with site(settings) as here, calling(wire) as call:
        worker = ScriptedWorker(here.url)
        await worker.begin()
        worker.hello["worker_manual_readiness_ack"] = True
        await worker.open()
        assert Frame.decoded(await worker.socket.recv()).kind == Kind.CONNECTION_READY
        with pytest.raises(Unreachable):
            await call()
        await worker.close()
        async with connected(here.url, worker_manual_readiness_ack=True) as ready:

            async def takes() -> bool:
                return len(await workers(wire, "shop")) == 1

            await eventually(takes, "it takes calls")
            asked = call()
            got = await ready.call()
            await got.ack()
            await ready.say(Kind.WORKER_PAUSE)

            async def is_paused() -> bool:
                return await workers(wire, "shop") == []

            await eventually(is_paused, "it takes none")
            with pytest.raises(Unreachable):
                await call()
            await ready.say(Kind.REPLY, got.response("done"))
            assert (await asked).body == b'"done"', "what it has in hand it ends"


async def test_a_server_that_stops_lets_open_calls_end_and_sends_workers_elsewhere(
    wire: Wire, settings: Settings
) -> None:
    async with site(settings) as here, connected(here.url) as worker, calling(wire) as call:
        asked = call()
        got = await worker.call()
        await got.ack()
        stopping = asyncio.create_task(here.stop())

        async def refuses() -> bool:
            answer = await worker.begin()
            return answer.status_code == 503 and "connect_gateway_closing" in answer.text

        await eventually(refuses, "it promises no connection any more")
        await worker.say(Kind.REPLY, got.response("ended"))
        assert (await asked).body == b'"ended"'
        await worker.next(Kind.CLOSING)
        await stopping
        assert worker.socket.close_reason == "connect_gateway_closing"


async def refused(here: Site, worker: ScriptedWorker) -> SyncFailed:
    """Return why a worker is not let in."""
    await worker.open()
    said = Frame.decoded(await worker.socket.recv())
    assert said.kind == Kind.SYNC_FAILED
    with pytest.raises(websockets.ConnectionClosed):
        await worker.socket.recv()
    assert worker.socket.close_code == 1008
    return SyncFailed.decoded(said.payload)


async def test_a_connection_is_opened_once_by_who_was_promised_it(settings: Settings, store: "redis.Redis") -> None:
    async with site(settings) as here:
        worker = ScriptedWorker(here.url)
        await worker.begin()
        assert 0 < store.ttl(keys.connect_token(worker.start.connection_id)) <= 60
        worker.hello["auth_data"] = AuthData(session_token="another")
        assert (await refused(here, worker)).code == "connect_authentication_failed"
        del worker.hello["auth_data"]
        assert (await refused(here, worker)).code == "connect_authentication_failed", "it is gone"
        await worker.connect()
        await worker.close()


async def test_what_is_refused_of_an_app_is_told_to_its_worker_and_kept(wire: Wire, settings: Settings) -> None:
    async with site(settings) as here:
        worker = ScriptedWorker(here.url, options={"concurrency": "many"})
        await worker.begin()
        told = await refused(here, worker)
        assert told.code == "invalid_function"
        assert "shop-f" in told.message
        app = await app_of(wire, "shop")
        assert app is not None
        assert app.error == told.message


async def test_with_keys_a_connection_is_promised_to_who_has_the_signing_key(settings: Settings) -> None:
    keyed = msgspec.structs.replace(settings, signing_key=SIGNING, event_keys=("event-key-1",))
    async with site(keyed) as here:
        assert (await ScriptedWorker(here.url).begin()).status_code == 401
        async with connected(here.url, headers={"authorization": f"Bearer {hashed(SIGNING)}"}):
            pass
        async with httpx2.AsyncClient(base_url=here.url) as http:
            assert (await http.post("/v0/connect/flush", content=b"")).status_code == 401


async def test_only_workers_that_ask_this_host_open_a_connection(settings: Settings) -> None:
    async with site(settings) as here:
        url = here.url.replace("http://", "ws://") + "/v0/connect"
        given: list[tuple[dict[str, str], list[str]]] = [
            ({"Host": "evil.example"}, [PROTOCOL]), ({"Origin": "http://evil.example"}, [PROTOCOL]), ({}, ["other"]),
        ]  # fmt: skip
        for headers, protocols in given:
            with pytest.raises(websockets.InvalidStatus):
                await websockets.connect(url, additional_headers=headers, subprotocols=protocols)  # type: ignore[arg-type]


async def test_nonsense_ends_a_connection_and_no_other(wire: Wire, settings: Settings) -> None:
    async with site(settings) as here, connected(here.url) as well, calling(wire) as call:
        for nonsense in (b"\xff\xff\xff", "text"):
            async with connected(here.url) as ill:
                await ill.socket.send(nonsense)
                await asyncio.wait_for(ill.socket.wait_closed(), 10)
        asked = call()
        await (await well.call()).returns("well")
        assert (await asked).body == b'"well"'


async def test_an_app_that_was_called_over_http_moves_to_its_workers_and_back(lab: Lab) -> None:
    async with site(lab.settings) as here, httpx2.AsyncClient(base_url=here.url) as http:
        runtime = {"type": "http", "url": "http://127.0.0.1:9/api?fnId=shop-f&stepId=step"}
        function = {
            "id": "shop-f", "name": "shop-f", "triggers": [{"event": "order/paid"}],
            "steps": {"step": {"id": "step", "name": "step", "runtime": runtime, "retries": {"attempts": 3}}},
        }  # fmt: skip
        asked = {"url": "http://127.0.0.1:9/api", "appName": "shop", "sdk": "js:v4.24.0", "functions": [function]}
        assert (await http.post("/fn/register", json=asked)).status_code == 200
        before = await app_of(lab.wire, "shop")
        async with connected(here.url):
            app = await app_of(lab.wire, "shop")
            assert app is not None
            assert before is not None
            assert app.url == "connect://shop"
            assert bus_of(app).declared == bus_of(before).declared, (
                "the same functions, elsewhere: no worker starts anew"
            )
            assert "was at http://127.0.0.1:9/api before" in app.note
        asked["functions"][0]["steps"]["step"]["runtime"] = {"type": "ws", "url": "wss://connect?fnId=shop-f"}
        refused = await http.post("/fn/register", json=asked)
        assert refused.status_code == 400, "over HTTP it must say where it is called"


async def test_a_call_whose_key_is_gone_is_broken_and_nothing_hangs(wire: Wire, settings: Settings) -> None:
    async with site(settings) as here, connected(here.url) as worker, calling(wire) as call:
        asked = call()
        got = await worker.call()
        await wire.call("DEL", keys.connect_call("shop", got.request.request_id))
        with pytest.raises(CallBroken, match="not in Redis any more"):
            await asked


async def test_the_page_and_the_command_show_who_is_connected(
    settings: Settings, in_environment: None, capsys: pytest.CaptureFixture[str]
) -> None:
    async with site(settings) as here, httpx2.AsyncClient(base_url=here.url) as http:
        async with connected(here.url, max_worker_concurrency=3):

            async def shown() -> str:
                return (await http.get("/apps", headers={"accept": "text/html"})).text

            async def tells() -> bool:
                return "one (TypeScript 4.24.0, version 7): connected" in await shown()

            await eventually(tells, "the page shows the worker")
            assert "has 0 of 3 calls in hand" in await shown()
            await asyncio.to_thread(apps)
            assert "shop: one (TypeScript 4.24.0, version 7): connected" in capsys.readouterr().out
            await asyncio.to_thread(apps, as_json=True)
            assert json.loads(capsys.readouterr().out)[0]["workers"][0]["capacity"] == 3

        async def waits() -> bool:
            return "no worker is connected: its runs wait" in await shown()

        await eventually(waits, "the page says that nobody is left")
        with pytest.raises(ConfigError, match="connect by themselves"):
            await asyncio.to_thread(apps, "sync", "shop")
