"""After Redis was wiped, or a part of it: what is known is written again, and what is lost is told of."""

import pytest

from bus import Context, Step
from bus.event import Outgoing
from bus.wire import keys
from bus.wire.streams import Publisher
from bus.wire.wire import Wire
from tests.support import Lab


@pytest.mark.parametrize("own_id", [False, True])
async def test_a_publisher_tells_of_its_names_again_after_a_wipe(lab: Lab, own_id: bool) -> None:
    """`bus serve` lives through FLUSHALL: a function with a wildcard must hear of the names it knew."""

    @lab.app.function("f", on="shop/*")
    async def f(ctx: Context[dict], step: Step) -> str:
        return ctx.event.name

    served = Publisher(lab.wire)
    await served.publish([Outgoing("1", "shop/paid", b"{}", own_id=own_id)])
    await lab.wire.call("FLUSHALL")
    await lab.work()
    await served.publish([Outgoing("2", "shop/paid", b"{}", own_id=own_id)])
    assert bytes((await lab.one()).output or b"") == b'"shop/paid"'
    assert await lab.wire.call("ZRANGE", keys.event_names(), 0, -1) == [b"shop/paid"]


async def test_a_list_of_names_that_was_deleted_is_written_again_by_who_publishes(wire: Wire, monkeypatch) -> None:
    monkeypatch.setattr("bus.wire.streams._ANNOUNCE_EVERY_S", 0.0)
    publisher = Publisher(wire)
    await publisher.publish([Outgoing("1", "a", b"{}")])
    await wire.call("DEL", keys.event_names())
    await publisher.publish([Outgoing("2", "a", b"{}")])
    assert await wire.call("ZRANGE", keys.event_names(), 0, -1) == [b"a"]


async def test_what_strangers_choose_is_not_remembered_for_ever(wire: Wire, monkeypatch) -> None:
    """Names, ids, signals: each publisher keeps a bounded number of them in memory."""
    monkeypatch.setattr("bus.wire.streams._MOST_KNOWN", 100)
    publisher = Publisher(wire)
    for n in range(50):
        await publisher.publish([Outgoing(f"{n}-{m}", f"name/{n}-{m}", b"{}", own_id=True) for m in range(10)])
    assert len(publisher._known) <= 100
    assert (keys._coded.cache_info().maxsize or 1e9) < 10_000
