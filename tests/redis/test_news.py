"""News of a stream: what comes is read as it comes, and whoever may have missed something is told to look."""

import asyncio
import contextlib

import pytest
import redis

from stepstream.bus.errors import StoreError
from stepstream.bus.wire import keys, streams
from stepstream.bus.wire.streams import Group, groups_of, news
from stepstream.bus.wire.wire import Wire
from tests.support import eventually

STREAM = keys.app_changes()


@pytest.fixture
def told(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    notices: list[str] = []
    monkeypatch.setattr(wire, "notice", lambda words, **about: notices.append(f"{words} {about['app']}"))
    monkeypatch.setattr(streams, "_AGAIN_S", 0.001)
    return notices


async def break_reads(wire: Wire, server_url: str) -> None:
    """End the connections that block on a stream."""
    with redis.Redis.from_url(server_url) as other:

        async def blocked() -> list[str]:
            return [str(one["id"]) for one in other.client_list() if "b" in one["flags"]]

        for one in await eventually(blocked, "somebody reads"):
            other.client_kill_filter(_id=one)


@pytest.mark.parametrize("after", ["", "0-0"])
async def test_what_comes_is_read_and_a_break_says_to_look(
    wire: Wire, server_url: str, told: list[str], after: str
) -> None:
    await wire.call("XADD", STREAM, "1-0", "app", "before")
    async with contextlib.aclosing(news(wire, STREAM, after, unread="unread", app="shop")) as changes:
        assert await anext(changes) == []
        if after:
            assert await anext(changes) == [("1-0", {b"app": b"before"})]
        await wire.call("XADD", STREAM, "2-0", "app", "now")
        assert await anext(changes) == [("2-0", {b"app": b"now"})]
        looks = asyncio.ensure_future(anext(changes))
        await break_reads(wire, server_url)
        assert await looks == []
        await wire.call("XADD", STREAM, "3-0", "app", "then")
        assert await anext(changes) == [("3-0", {b"app": b"then"})]
    assert told == []


async def test_another_key_in_its_place_is_told_once_and_waited_out(wire: Wire, told: list[str]) -> None:
    await wire.call("SET", STREAM, "no stream")
    async with contextlib.aclosing(news(wire, STREAM, unread="changes cannot be read", app="shop")) as changes:
        looks = asyncio.ensure_future(anext(changes))

        async def is_told() -> bool:
            return bool(told)

        await eventually(is_told, "it is told")
        await wire.call("DEL", STREAM)
        assert await looks == []
    assert told == ["changes cannot be read shop"]


async def test_the_groups_of_a_stream_say_how_far_each_has_come_and_of_none_there_are_none(wire: Wire) -> None:
    assert await groups_of(wire, "nothing") == {}
    for n in range(3):
        await wire.call("XADD", STREAM, f"{n + 1}-0", "a", "b")
    await wire.call("XGROUP", "CREATE", STREAM, "first", "0")
    await wire.call("XGROUP", "CREATE", STREAM, "middle", "1-5")
    await wire.call("XREADGROUP", "GROUP", "first", "me", "COUNT", 1, "STREAMS", STREAM, ">")
    assert await groups_of(wire, STREAM) == {"first": Group("1-0", 1, 2), "middle": Group("1-5", 0, None)}
    await wire.call("SET", "text", "word")
    with pytest.raises(StoreError):
        await groups_of(wire, "text")
