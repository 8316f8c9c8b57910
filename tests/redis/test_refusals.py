"""Error replies: what is about our own arguments is final; every other is a state of the server, to be lived through."""

import asyncio

import msgspec
import pytest
import redis

from stepstream.bus.errors import GroupMissing, KeyMissing, RightMissing, ScriptMissing, StoreError, StoreUnavailable
from stepstream.bus.event import Outgoing
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection import retry
from stepstream.bus.wire.connection.refusals import translated
from stepstream.bus.wire.publishing import Publisher, PublishFailed
from stepstream.bus.wire.wire import Wire
from tests.chaos.resp import WORDS, RespProxy
from tests.support import free_port, logged_in

FINAL = [
    ("XADD", "text", "*", "a", "b"),
    ("XADD", "stream", "0-1", "a", "b"),
    ("XADD", "stream", "nonsense", "a", "b"),
    ("XGROUP", "CREATE", "stream", "group", "$"),
    ("XGROUP", "DESTROY", "nothing", "group"),
    ("XINFO", "GROUPS", "nothing"),
    ("XREADGROUP", "GROUP", "group", "me", "STREAMS", "stream"),
    ("XPENDING", "stream", "group", "IDLE", "x"),
    ("ECHO",),
    ("ZADD", "zset", "x", "member"),
    ("ZRANGEBYLEX", "zset", "a", "b"),
    ("ZRANGEBYSCORE", "zset", "x", "y"),
    ("PEXPIRE", "text", "x"),
    ("PEXPIRE", "text", "9223372036854775807"),
    ("SET", "text", "x", "PX", "0"),
    ("INCRBY", "text", "1"),
    ("HINCRBY", "hash", "field", "1"),
    ("EVAL", "return nonsense(", "0"),
    ("EVAL", "return redis.call('ZADD', 'zset', 'x', 'member')", "0"),
    ("EVAL", "return nil .. 1", "0"),
    ("EVAL", "return redis.call('XADD', 'text', '*', 'a', 'b')", "0"),
    ("EVAL", "return 1", "5"),
    ("EVAL", "#!lua flags=no-writes\nreturn redis.call('SET', 'text', 'x')", "0"),
]


@pytest.mark.parametrize("command", FINAL, ids=" ".join)
async def test_what_is_about_our_arguments_or_scripts_is_final(wire: Wire, command: tuple[str, ...]) -> None:
    await wire.call("SET", "text", "word")
    await wire.call("HSET", "hash", "field", "word")
    await wire.call("XGROUP", "CREATE", "stream", "group", "$", "MKSTREAM")
    await wire.call("XADD", "stream", "5-0", "a", "b")
    with pytest.raises(StoreError):
        await wire.call(*command)


@pytest.mark.each_server
async def test_a_key_that_the_user_may_not_touch_is_told_with_the_prefix_and_the_right(
    wire: Wire, settings: Settings, flushing: "redis.Redis"
) -> None:
    """BUS_PREFIX was another one than the rule's: "one of the keys used as arguments" names neither."""
    flushing.execute_command("ACL", "SETUSER", "other", "on", ">pw", "~other:*", "&*", "+@all")
    theirs = Wire(msgspec.structs.replace(settings, redis_url=logged_in(settings.redis_url, "other")), "test")
    try:
        for command in (("HGET", keys.meta(), "a"), ("EVAL", "return 1", 1, keys.meta())):
            with pytest.raises(RightMissing, match=r"keys begin with bus: here \(BUS_PREFIX\).* as ~bus:\* does"):
                await theirs.call(*command)
    finally:
        await theirs.close()
        flushing.execute_command("ACL", "DELUSER", "other")


@pytest.mark.parametrize("text", WORDS)
def test_words_outside_any_list_are_states_to_live_through(text: str) -> None:
    error = translated(text)
    assert isinstance(error, StoreUnavailable)
    assert not isinstance(error, RightMissing)
    assert error.state == text.partition(" ")[0]


def test_a_script_that_an_operator_killed_is_tried_again() -> None:
    text = "ERR Script killed by user with SCRIPT KILL. script: 2f1aa5, on @user_script:1."
    assert isinstance(translated(text), StoreUnavailable)
    text = f"ERR Error running script (call to f_{'0' * 40}): @user_script:1: Script killed by user with SCRIPT KILL..."
    assert isinstance(translated(text), StoreUnavailable)


def test_words_that_ask_for_an_act_have_their_own_error() -> None:
    assert isinstance(translated("NOSCRIPT No matching script."), ScriptMissing)
    assert isinstance(translated("NOGROUP No such key"), GroupMissing)
    assert isinstance(translated("ERR no such key"), KeyMissing)
    assert isinstance(translated("NOPERM User app has no permissions"), RightMissing)
    assert type(translated("BUSYGROUP Consumer Group name already exists")) is StoreError


async def test_a_publisher_lives_through_any_refusal_and_stores_each_event_once(
    settings: Settings, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`-ERR max number of clients reached` was final: PublishFailed was documented, a StoreError came."""
    for pause in ("_FIRST", "_ATTEMPTS_GAP", "_ATTEMPTS_LONGEST"):  # how long is waited is not the question here
        monkeypatch.setattr(retry, pause, getattr(retry, pause) / 20)
    with RespProxy(_port(settings), seed=3) as proxy:
        through = Wire(Settings(redis_url=proxy.url), "through")
        publisher = Publisher(through)
        proxy.refuse(WORDS, share=0.3)
        events = [Outgoing(f"e{n}", f"a{n % 3}", b"{}", own_id=n % 2 == 0) for n in range(16)]
        stored = [one for start in range(0, 16, 4) for one in await publisher.publish(events[start : start + 4])]
        proxy.mend()
        await through.close()
    assert [one.id for one in stored] == [event.id for event in events]
    entries = [await wire.call("XRANGE", keys.events(f"a{n}"), "-", "+") for n in range(3)]
    assert sorted(fields[1].decode() for rows in entries for _, fields in rows) == sorted(event.id for event in events)


async def test_a_publisher_says_publish_failed_also_when_the_names_could_not_be_told() -> None:
    wire = Wire(Settings(redis_url=f"redis://127.0.0.1:{free_port()}"), "test")
    with pytest.raises(PublishFailed) as caught:
        await Publisher(wire).publish([Outgoing("e", "a", b"{}")], patience=0.3)
    assert (caught.value.state, caught.value.stored) == ("refused", [])
    await wire.close()


async def test_one_event_that_is_refused_for_good_leaves_no_other_unheard(wire: Wire) -> None:
    await wire.call("SET", keys.events("bad"), "no stream")
    events = [Outgoing("e0", "good", b"{}"), Outgoing("e1", "bad", b"{}"), Outgoing("e2", "bad", b"{}")]
    with pytest.raises(StoreError, match="WRONGTYPE"):
        await Publisher(wire).publish([*events, Outgoing("e3", "good", b"{}")])
    assert await wire.call("XLEN", keys.events("good")) == 2
    await wire.call("DEL", keys.events("bad"))


async def test_a_word_that_leads_elsewhere_closes_the_connection_and_looks_the_address_up_again(
    settings: Settings,
) -> None:
    """READONLY was for ever: the old primary had become a replica, and its connections stayed."""
    with RespProxy(_port(settings)) as proxy:
        told: list[tuple[str, object]] = []
        through = Wire(Settings(redis_url=proxy.url), "t", lambda event, **fields: told.append((event, fields)))
        first = await through.call("CLIENT", "ID")
        proxy.answer("ERR not that kind of word", "SET")
        with pytest.raises(StoreUnavailable, match="not that kind"):
            await through.call("SET", "a", "1")
        assert await through.call("CLIENT", "ID") == first
        for word in ("READONLY You can't write", "MASTERDOWN Link", "UNBLOCKED force unblock", "LOADING Redis is"):
            proxy.answer(word, "SET")
            outcomes = await asyncio.gather(
                *(through.call("SET", f"a{n}", "1") for n in range(3)), return_exceptions=True
            )
            assert isinstance(outcomes[0], StoreUnavailable)
            second = await through.call("CLIENT", "ID")
            assert second != first
            first = second
        await through.close()
    assert [fields["state"] for _, fields in told] == ["ERR", "READONLY", "MASTERDOWN", "UNBLOCKED", "LOADING"]


def _port(settings: Settings) -> int:
    return int(settings.redis_url.rpartition(":")[2].partition("/")[0])
