"""Live messages: what runs publish while they are at work, and who listens, on a real server."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
import redis

from stepstream import Bus, Context, RetryAfter, Step, create_app
from stepstream.bus.errors import BadRequest, StoreError
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.live import hub, messages
from stepstream.checkpoint.live.hub import Ended, TooSlow, hub_of
from stepstream.checkpoint.live.messages import publish
from stepstream.web.serving.server import Server, server
from tests.patience import PATIENT_S
from tests.support import Lab, eventually

Event = dict[str, Any]


class Site:
    def __init__(self, url: str, running: Server) -> None:
        self.url = url
        self.running = running

    @asynccontextmanager
    async def events(self, path: str, **headers: str) -> AsyncGenerator[AsyncIterator[Event]]:
        async with (
            httpx2.AsyncClient(base_url=self.url, timeout=PATIENT_S, verify=False) as client,
            client.stream("GET", path, headers=headers) as answer,
        ):
            assert answer.status_code == 200, await answer.aread()
            assert answer.headers["content-type"].startswith("text/event-stream")
            yield told(answer.aiter_lines())


async def told(lines: AsyncIterator[str]) -> AsyncIterator[Event]:
    event: Event = {}
    async for line in lines:
        name, _, text = line.partition(": ")
        if line.startswith(":"):
            yield {"comment": line}
        elif not line:
            if "data" in event:
                yield event
            event = {}
        else:
            event[name] = json.loads(text) if name == "data" else text


@asynccontextmanager
async def serving(settings: Settings) -> AsyncGenerator[Site]:
    bound = socket.create_server(("127.0.0.1", 0))
    running = server(create_app(configured=settings), settings)
    serve = asyncio.create_task(running.serve(sockets=[bound]))
    try:
        while not running.started:
            await asyncio.sleep(0.005)
        yield Site(f"http://127.0.0.1:{bound.getsockname()[1]}", running)
    finally:
        running.should_exit = True
        await serve


@pytest.fixture
async def site(settings: Settings) -> AsyncGenerator[Site]:
    async with serving(settings) as running:
        yield running


def connected(lab: Lab) -> Bus:
    app = Bus("listening")
    app.connect(lab.wire)
    return app


async def test_what_a_run_publishes_comes_to_who_listens_and_once_though_its_code_is_called_again(
    lab: Lab, site: Site
) -> None:
    may_end = asyncio.Event()

    @lab.app.function("f", on="order/paid")
    async def f(ctx: Context, step: Step) -> None:
        await ctx.publish("state", {"at": "begun"})
        await step.run("a", lambda: None)
        await ctx.publish("state", {"at": "after a"})
        await step.sleep("s", 0.05)
        await may_end.wait()
        await ctx.publish("state", "slept")
        await ctx.publish("news", 1, channel="shop news")

    await lab.work()
    await lab.send("order/paid")
    run = await lab.some()
    async with site.events(f"/v1/live/{run[0].id}?after=0") as own, site.events("/v1/live/shop%20news") as news:
        first = await anext(own)
        assert first["data"] | {"at": 0} == {
            "channel": run[0].id, "topic": "state", "data": {"at": "begun"}, "at": 0, "run": run[0].id
        }  # fmt: skip
        assert first["data"]["at"] == int(first["id"].partition("-")[0])
        assert (await anext(own))["data"]["data"] == {"at": "after a"}
        may_end.set()
        assert (await anext(own))["data"]["data"] == "slept"
        assert (await anext(news))["data"]["data"] == 1
    await lab.one()
    assert await lab.wire.call("XLEN", keys.live(run[0].id)) == 3
    assert 0 < await lab.wire.call("PTTL", keys.live(run[0].id)) <= messages.KEPT_MS


async def test_a_listener_goes_on_behind_its_last_event_and_may_choose_topics(wire: Wire, site: Site) -> None:
    ids = [await publish(wire, "c", topic, b"%d" % n) for n, topic in enumerate("abcab")]
    async with site.events("/v1/live/c?topic=a&topic=b", **{"Last-Event-ID": ids[0]}) as events:
        assert [(await anext(events))["data"]["data"] for _ in range(3)] == [1, 3, 4]
        await publish(wire, "c", "c", b"5")
        await publish(wire, "c", "a", b"6")
        assert (await anext(events))["data"]["data"] == 6


async def test_a_channel_that_is_empty_waits_and_what_came_before_is_not_told(wire: Wire, site: Site) -> None:
    await publish(wire, "old", "t", b"0")
    async with site.events("/v1/live/empty") as empty, site.events("/v1/live/old") as old:
        await publish(wire, "old", "t", b"1")
        assert (await anext(old))["data"]["data"] == 1
        await publish(wire, "empty", "t", b"2")
        assert (await anext(empty))["data"]["data"] == 2


async def test_many_listeners_share_one_connection_that_goes_with_the_last(wire: Wire, admin: Wire, site: Site) -> None:
    async def readers() -> int:
        clients = (await admin.call("CLIENT", "LIST")).decode()
        return clients.count("cmd=xread")

    async with asyncio.timeout(PATIENT_S), asyncio.TaskGroup() as tasks:
        ready = asyncio.Barrier(31)

        async def listen(n: int) -> None:
            async with site.events(f"/v1/live/c{n % 10}") as events:
                await ready.wait()
                assert (await anext(events))["data"]["data"] == n % 10
                await ready.wait()

        for n in range(30):
            tasks.create_task(listen(n))
        await ready.wait()
        for n in range(10):
            await publish(wire, f"c{n}", "t", b"%d" % n)
        assert await readers() <= 1
        await ready.wait()

    async def none() -> bool:
        return await readers() == 0

    await eventually(none, "no reader")


async def test_a_server_that_stops_says_so_at_once(settings: Settings) -> None:
    async with serving(settings) as site, site.events("/v1/live/c") as events:
        site.running.should_exit = True
        assert (await anext(events))["event"] == "closing"
        assert [event async for event in events] == []


async def test_who_does_not_take_its_messages_is_let_go_and_may_go_on(wire: Wire) -> None:
    async with hub_of(wire).listen("c") as slow, hub_of(wire).listen("c") as quick:
        first = await publish(wire, "c", "t", b"0")
        assert [one.id for one in await slow.next(5)] == [first]
        taken = 0
        for n in range(hub.MOST_WAITING + 1):
            await publish(wire, "c", "t", b"%d" % n)
            taken += len(await quick.next(0.01))
        while taken < hub.MOST_WAITING + 2:
            taken += len(await quick.next(5))
        with pytest.raises(TooSlow) as dropped:
            await slow.next(5)
    assert dropped.value.last == first
    async with hub_of(wire).listen("c", after=first) as again:
        got = 0
        while got < hub.MOST_WAITING + 1:
            got += len(await again.next(5))


async def test_a_gap_is_told_when_messages_are_no_longer_kept(wire: Wire, site: Site) -> None:
    ids = [await publish(wire, "c", "t", b"%d" % n) for n in range(3)]
    await wire.call("XTRIM", keys.live("c"), "MAXLEN", 1)
    async with site.events("/v1/live/c", **{"Last-Event-ID": ids[0]}) as events:
        assert (await anext(events))["event"] == "gap"
        assert (await anext(events))["data"]["data"] == 2


async def test_a_channel_keeps_fewer_messages_when_they_are_large(wire: Wire) -> None:
    for _ in range(40):
        await publish(wire, "c", "t", b'"%s"' % (b"x" * (messages.MAX_MESSAGE_BYTES - 2)))
    assert await wire.call("XLEN", keys.live("c")) < 40
    with pytest.raises(BadRequest, match="at most 524288 bytes"):
        await publish(wire, "c", "t", b"x" * (messages.MAX_MESSAGE_BYTES + 1))


@pytest.mark.parametrize(
    "path", ["/v1/live/c?after=x", "/v1/live/c?after=99999999999999999999", f"/v1/live/{'c' * 256}"]
)
async def test_what_makes_no_sense_is_refused_before_it_begins(site: Site, path: str) -> None:
    async with httpx2.AsyncClient(base_url=site.url) as client:
        answer = await client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


async def test_a_key_that_is_no_stream_harms_only_who_listens_to_it(
    wire: Wire, site: Site, store: "redis.Redis"
) -> None:
    async with site.events("/v1/live/spoilt") as spoilt, site.events("/v1/live/sound") as sound:
        store.set(keys.live("spoilt"), "x", px=60_000)
        async with site.events("/v1/live/another"):  # the next read is asked anew
            assert (await anext(spoilt))["event"] == "error"
            await publish(wire, "sound", "t", b"1")
            assert (await anext(sound))["data"]["data"] == 1


async def test_an_application_follows_a_channel(lab: Lab) -> None:
    first = await publish(lab.wire, "c", "t", b'{"n":1}', run="r1")
    following = connected(lab).live("c", after="0")
    one = await anext(following)
    assert (one.id, one.channel, one.topic, one.data, one.run) == (first, "c", "t", {"n": 1}, "r1")
    await publish(lab.wire, "c", "t", b"2")
    assert (await anext(following)).data == 2
    await following.aclose()
    assert hub._hubs == {}


async def test_code_that_is_tried_again_publishes_again_and_a_body_publishes_too(lab: Lab) -> None:
    @lab.app.function("f", on="order/paid", retries=1)
    async def f(ctx: Context, step: Step) -> None:
        async def body() -> None:
            await ctx.publish("body", ctx.attempt)

        await step.run("a", body)
        await ctx.publish("between", ctx.attempt)
        if ctx.attempt == 0:
            raise RetryAfter(1, "again")

    await lab.work()
    await lab.send("order/paid")
    run = await lab.one()
    following = connected(lab).live(run.id, after="0")
    told = [await anext(following) for _ in range(3)]
    await following.aclose()
    assert [(one.topic, one.data) for one in told] == [("body", 0), ("between", 0), ("between", 1)]


async def test_what_is_not_json_fails_the_run_and_says_so(lab: Lab) -> None:
    @lab.app.function("f", on="order/paid")
    async def f(ctx: Context, step: Step) -> None:
        await ctx.publish("t", object())

    await lab.work()
    await lab.send("order/paid")
    run = await lab.one()
    assert run.status == "failed"
    assert run.error is not None
    assert "a message's data is not JSON" in run.error.message


async def test_a_listener_that_is_refused_leaves_nothing_behind(wire: Wire, store: "redis.Redis") -> None:
    store.set(keys.live("spoilt"), "x", px=60_000)
    with pytest.raises(StoreError):
        async with hub_of(wire).listen("spoilt"):
            pass
    with pytest.raises(BadRequest):
        async with hub_of(wire).listen(""):
            pass
    assert hub._hubs == {}


async def test_who_comes_while_the_last_one_goes_is_told_that_the_server_stops(wire: Wire) -> None:
    """It was of a hub that nobody knew any more."""
    async with hub_of(wire).listen("a"):
        coming = hub_of(wire).listen("b")
        entering = asyncio.ensure_future(coming.__aenter__())
        await asyncio.sleep(0)  # it asks Redis
    hub.end_listening()
    with pytest.raises(Ended):
        await (await entering).next(10)
    await coming.__aexit__(None, None, None)
    assert hub._hubs == {}
