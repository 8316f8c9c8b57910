"""What lies where the stream of one name should be, and is none: told, and it holds up nothing of other names."""

import anyio
import pytest

from stepstream import NewEvent
from stepstream.bus.observe.signals import Signals
from stepstream.bus.wire import keys
from stepstream.checkpoint.delayed import due_names
from stepstream.consumers.upkeep.retention import Retention
from tests.support import Lab, eventually

pytestmark = pytest.mark.leaves_behind("it is put there by hand")


async def test_a_spoilt_stream_holds_up_the_delayed_events_of_its_own_name_only(lab: Lab) -> None:
    @lab.app.function("f", on="later")
    async def f(ctx, step):
        return ctx.event.id

    await lab.app.send(NewEvent("spoilt", {}, "first", delay="50ms"))
    await lab.wire.call("SET", keys.events("spoilt"), "no stream")
    await lab.app.send(NewEvent("later", {}, "second", delay="60ms"))
    await anyio.sleep(0.06)
    await lab.work()
    assert await lab.output() == "second"
    assert [n.fields["name"] for n in lab.notices if "delayed events of a name" in n.event] == ["spoilt"]
    await lab.wire.call("DEL", keys.events("spoilt"))
    assert (await due_names(lab.wire))[0] == [], "it is looked at again in a minute"
    await lab.wire.call("ZADD", keys.delayed_names(), 0, "spoilt")

    async def is_published() -> bool:
        return bool(await lab.wire.call("EXISTS", keys.events("spoilt")))

    await eventually(is_published, "published once its stream may be one")


async def test_what_lies_in_place_of_a_delayed_event_holds_up_no_other(lab: Lab) -> None:
    @lab.app.function("f", on="later")
    async def f(ctx, step):
        return ctx.event.id

    await lab.app.send([NewEvent("later", {}, one, delay="50ms") for one in "abc"])
    await lab.wire.call("DEL", keys.delayed_event("later", "b"))
    await lab.wire.call("SET", keys.delayed_event("later", "b"), "no hash")
    await anyio.sleep(0.06)
    await lab.work()
    assert len(await lab.ended(2)) == 2
    assert [n.fields for n in lab.notices if "is lost" in n.event] == [{"name": "later", "id": "b"}]


async def test_a_spoilt_stream_keeps_no_wildcard_from_its_other_names(lab: Lab) -> None:
    @lab.app.function("f", on="shop/*")
    async def f(ctx, step):
        return ctx.event.name

    for name in ("shop/a", "shop/z"):
        await lab.wire.call("ZADD", keys.event_names(), 1, name)
    await lab.wire.call("SET", keys.events("shop/a"), "no stream")
    await lab.work()
    await lab.send("shop/z")
    await lab.ended(1)
    await lab.wire.call("SET", keys.events("shop/b"), "no stream")
    await lab.wire.call("ZADD", keys.event_names(), 2, "shop/b")
    await lab.send("shop/c")
    await lab.ended(2)


async def test_a_spoilt_stream_keeps_retention_from_no_other(lab: Lab) -> None:
    for name in ("a", "b"):
        await lab.wire.call("ZADD", keys.event_names(), 1, name)
    await lab.wire.call("SET", keys.events("a"), "no stream")
    await Retention(lab.wire, Signals(), [], dict).once()
    assert await lab.wire.call("ZRANGE", keys.event_names(), 0, -1) == [b"a"], "b has no stream, and is forgotten"
