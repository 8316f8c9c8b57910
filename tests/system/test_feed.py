"""What open pages are told: one look for all of them, none while nobody looks, and one reading for all that show the same."""

import asyncio

import pytest
import redis

from stepstream.bus.errors import BadRequest
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.live.hub import Ended
from stepstream.web.live import feed
from stepstream.web.live.feed import ALL, Topic, end_watching, feed_of, pause_of, read_once, topic_of
from tests.patience import PATIENT_S

RUN = "01KB0000000000000000000000"


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "EVERY_S", 0.01)
    monkeypatch.setattr(feed, "_SHARE", 1)


@pytest.fixture
def functions(store: "redis.Redis") -> None:
    for slug in ("t-f", "t-g"):
        store.hset(keys.functions(), slug, "{}")


async def told(watcher: feed.Watcher) -> list[str]:
    """Return the next functions of which something changed; ticks are passed over."""
    async with asyncio.timeout(PATIENT_S):
        while not (notice := await watcher.next()).changed:
            pass
    return notice.changed


async def looked(wire: Wire) -> None:
    """Wait until each of its topics has been looked at."""
    mine = feed_of(wire)
    async with asyncio.timeout(PATIENT_S):
        while not mine._words or any(one.topic not in mine._words for one in mine._watchers):
            await asyncio.sleep(0.005)


@pytest.mark.usefixtures("fast", "functions")
async def test_a_page_is_told_of_its_own_functions_and_runs(wire: Wire, store: "redis.Redis") -> None:
    mine = feed_of(wire)
    async with mine.watch(ALL) as every, mine.watch(Topic("t-g")) as of_g, mine.watch(Topic("t-f", RUN)) as of_run:
        await looked(wire)
        store.zadd(keys.runs("t-g", "running"), {RUN: 1})
        assert await told(every) == ["t-g"]
        assert await told(of_g) == ["t-g"]
        assert not of_run._changed
        store.hset(keys.open_steps("t-f", RUN), "s", '{"attempt":1}')
        assert await told(of_run) == ["t-f"]
        store.hset(keys.open_steps("t-f", RUN), "s", '{"attempt":2}')
        assert await told(of_run) == ["t-f"]
        store.hset(keys.functions(), "t-new", "{}")
        assert "" in await told(every)
    store.delete(keys.runs("t-g", "running"), keys.open_steps("t-f", RUN))


@pytest.mark.usefixtures("fast", "functions")
async def test_while_nobody_looks_redis_is_not_asked(wire: Wire, store: "redis.Redis") -> None:
    async with feed_of(wire).watch(ALL):
        await looked(wire)
    assert not feed._feeds
    before = store.info("commandstats")["cmdstat_hkeys"]["calls"]
    await asyncio.sleep(0.05)
    assert store.info("commandstats")["cmdstat_hkeys"]["calls"] == before


@pytest.mark.usefixtures("functions")
async def test_a_hundred_that_show_the_same_share_one_reading_until_something_changes(wire: Wire) -> None:
    count = 0

    async def read() -> int:
        nonlocal count
        count += 1
        await asyncio.sleep(0)
        return count

    assert [await read_once(wire, "/x", read) for _ in range(2)] == [1, 2], "nobody looks: each is read anew"
    mine = feed_of(wire)
    async with mine.watch(ALL):
        assert set(await asyncio.gather(*(read_once(wire, "/x", read) for _ in range(100)))) == {3}
        assert await read_once(wire, "/y", read) == 4
        mine._tell_all()
        assert await read_once(wire, "/x", read) == 5


@pytest.mark.usefixtures("functions")
async def test_a_reading_that_fails_fails_for_those_who_share_it_and_not_for_ever(wire: Wire) -> None:
    async def broken() -> int:
        raise BadRequest("no")

    async def read() -> int:
        return 1

    mine = feed_of(wire)
    async with mine.watch(ALL):
        found = await asyncio.gather(*(read_once(wire, "/x", broken) for _ in range(3)), return_exceptions=True)
        assert [type(one) for one in found] == [BadRequest] * 3
        mine._tell_all()
        assert await read_once(wire, "/x", read) == 1


async def test_when_the_process_stops_all_hear_it(wire: Wire) -> None:
    mine = feed_of(wire)
    async with mine.watch(ALL) as one:
        end_watching()
        with pytest.raises(Ended):
            await one.next()
        async with mine.watch(ALL) as late:
            with pytest.raises(Ended):
                await late.next()


@pytest.mark.parametrize("text", ["", "fn:", "run:", "run:x", "run:x:", "run::x", "nothing", "ALL", "x" * 10_000])
def test_what_is_no_topic_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="of must be all"):
        topic_of(text)


@pytest.mark.parametrize("topic", [ALL, Topic("t-f"), Topic("t-a:b", RUN)])
def test_a_topic_is_read_as_it_is_written(topic: Topic) -> None:
    assert topic_of(topic.text) == topic


def test_one_look_that_waited_for_redis_does_not_keep_the_next_from_coming_soon() -> None:
    """Redis stood still for four seconds, and open pages were told of nothing for three minutes after."""
    assert pause_of(4.0, 0.003) == 1.0
    assert pause_of(0.2, 0.1) == 5.0, "with very many functions it is looked less often"
    assert pause_of(9.0, 9.0) == 30.0
