"""Encryption of what passes through Redis to connected applications: their calls, and what they answer."""

import msgspec
import pytest
import redis

from stepstream.bus.encryption import users_codec
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.checkpoint.connections.calls import Asked, ask, call_id, end, put_back, take
from stepstream.checkpoint.connections.workers import Worker, join, leave
from tests import codecs
from tests.scripted_app import op, sha
from tests.scripted_worker import Call, connected, site
from tests.support import Lab
from tests.system.test_connect import registered
from tests.system.test_encryption import SECRET, change_codec


@pytest.fixture
def settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A process of its own codec: one process has one, and the next test is to have another."""
    monkeypatch.setattr(users_codec, "_codec", None)
    monkeypatch.setattr(users_codec, "_named", None)
    return msgspec.structs.replace(settings, codec="tests.codecs:own")


async def test_calls_and_answers_of_a_connected_application_are_not_readable_on_their_way_through_redis(
    lab: Lab, store: "redis.Redis"
) -> None:
    async def script(call: Call) -> None:
        if sha("a") not in call.steps:
            await call.ops(op("StepRun", "a", data={"token": call.body["event"]["data"]["token"]}))
        else:
            await call.returns(call.steps[sha("a")])

    async with site(lab.settings) as here, connected(here.url, script):
        await registered(lab)
        with store.monitor() as watched:
            await lab.send("order/paid", {"token": SECRET})
            assert await lab.output() == {"data": {"token": SECRET}}
            store.echo("enough")
            commands: list[str] = []
            for one in watched.listen():
                commands.append(one["command"])
                if one["command"] == "ECHO enough":
                    break
    told = "\n".join(commands)
    assert "bus:connect:{shop}:call:" in told
    assert SECRET not in told


async def test_a_server_without_the_codec_leaves_a_call_to_others_and_says_so(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    lab.wire.notice = lambda event, **fields: told.append(f"{event}: {fields}")
    asked = Asked(call_id("shop"), "shop-f", "step", "r1", b'{"a":1}')
    here = Worker(connection="c1", gateway="g1", instance="i1", sdk="", version="", capacity=1, since=1)
    await join(lab.wire, "shop", here, 60_000, takes=True)
    for codec in (None, codecs.new):
        change_codec(monkeypatch, codecs.own)
        assert await ask(lab.wire, "shop", asked, "p1", 60_000) == "asked"
        change_codec(monkeypatch, codec)
        assert await take(lab.wire, "shop", "g1", ["shop-f"], 5, 60_000) == []
        assert "cannot be opened here" in told.pop()
        assert "r1" in str(await lab.admin.call("HGETALL", keys.connect_call("shop", asked.id)))
        change_codec(monkeypatch, codecs.own)
        await put_back(lab.wire, "shop", asked.id, 60_000)
        assert await take(lab.wire, "shop", "g2", ["shop-f"], 5, 60_000) == [asked]
        await end(lab.wire, "shop", asked.id)
    await leave(lab.wire, "shop", "c1")
