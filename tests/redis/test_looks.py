"""Reads for who looks: those of one tick are one command, and each has its own answer, or its own error."""

import asyncio

import redis

from stepstream.bus.errors import KeyMissing, WrongType
from stepstream.bus.wire.batching import LOOKS_AT_ONCE
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.facts.minutes import _READ as MINUTES
from tests.support import sent

READS = [
    ("HGETALL", "h"), ("GET", "s"), ("GET", "none"), ("ZSCORE", "z", "m"), ("ZRANGE", "z", 0, 0, "WITHSCORES"),
    ("HMGET", "h", "a", "x"), ("XINFO", "GROUPS", "x"), ("LRANGE", "none", 0, -1), ("HGET", "s", "a"),
    ("XINFO", "STREAM", "none"), ("ZCARD", "z"), ("XRANGE", "x", "-", "+"), ("ZCOUNT", "z", "(0", "+inf"),
]  # fmt: skip


async def test_reads_of_one_tick_are_one_command_and_are_answered_as_each_alone_is(
    wire: Wire, store: "redis.Redis"
) -> None:
    store.hset("h", "a", "1")
    store.set("s", "ü")
    store.zadd("z", {"m": 1.5})
    store.xadd("x", {"a": "1"})
    store.xgroup_create("x", "g")
    alone = [await asyncio.gather(wire.call(*command), return_exceptions=True) for command in READS]
    with sent(store) as commands:
        together = await asyncio.gather(*(wire.look(*command) for command in READS), return_exceptions=True)
    assert [repr(one) for one in together] == [repr(one) for [one] in alone]
    assert (type(together[8]), type(together[9])) == (WrongType, KeyMissing)
    assert commands.count("EVALSHA") + commands.count("EVAL") <= 2, commands
    assert not {"GET", "HGETALL", "XINFO"} & {*commands}
    with sent(store) as commands:
        assert await wire.look("GET", "s") == "ü".encode()
    assert "GET" in commands, "one alone is sent as it is"
    store.delete("h", "s", "z", "x")


async def test_many_reads_are_several_calls_of_which_none_holds_the_server_for_long(
    wire: Wire, store: "redis.Redis"
) -> None:
    await wire.looks(("GET", "a"), ("GET", "b"))
    with sent(store) as commands:
        assert await wire.looks(*(("GET", "none") for _ in range(2 * LOOKS_AT_ONCE + 1))) == [None] * (
            2 * LOOKS_AT_ONCE + 1
        )
    assert (commands.count("EVALSHA"), commands.count("GET")) == (2, 1)


async def test_a_server_that_has_forgotten_the_script_gets_it_again(wire: Wire, store: "redis.Redis") -> None:
    await wire.looks(("GET", "a"), ("GET", "b"))
    store.script_flush()
    assert await wire.looks(("GET", "a"), ("GET", "b")) == [None, None]
    store.script_flush()
    [now, rows], other = await asyncio.gather(*(wire.look_script(MINUTES, ["bus:fn:{t}:"], 1, 2) for _ in range(2)))
    assert (now > 0, rows, other[1]) == (True, [], [])


async def test_a_caller_that_is_cancelled_takes_no_answer_from_the_others(wire: Wire, store: "redis.Redis") -> None:
    store.set("s", "v")
    gone, kept = (asyncio.ensure_future(wire.look("GET", "s")) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    assert await kept == b"v"
    store.delete("s")
