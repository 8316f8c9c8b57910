"""A field that several change at once: each change is made to what stands, and none is lost."""

import redis

from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.controls.ordered import Pause
from stepstream.checkpoint.fields import put_field, put_if

FIELD = "paused function test-f"


async def test_what_was_taken_back_while_it_was_changed_is_written_all_the_same(
    wire: Wire, store: "redis.Redis"
) -> None:
    """It was told as written, and was not: nothing stood, which was taken for done."""
    store.hset(keys.controls(), FIELD, '{"since":1,"by":"Ada"}')
    seen: list[Pause | None] = []

    def later(stands: Pause | None) -> Pause:
        seen.append(stands)
        store.hdel(keys.controls(), FIELD)
        return Pause(2, "Bob")

    assert await put_field(wire, keys.controls(), FIELD, Pause, later) == Pause(2, "Bob")
    assert seen == [Pause(1, "Ada"), None]
    assert store.hget(keys.controls(), FIELD) == '{"since":2,"by":"Bob"}'


async def test_the_second_of_two_sees_what_the_first_has_written_and_one_who_changes_nothing_writes_nothing(
    wire: Wire, store: "redis.Redis"
) -> None:
    others = iter(['{"since":3,"by":"Eve"}'])

    def first(stands: Pause | None) -> Pause:
        for other in others:
            store.hset(keys.controls(), FIELD, other)
        return stands or Pause(4, "Ada")

    assert await put_field(wire, keys.controls(), FIELD, Pause, first) == Pause(3, "Eve")
    store.hset(keys.controls(), FIELD, "written by hand")
    assert await put_field(wire, keys.controls(), FIELD, Pause, lambda stands: stands or Pause(5, "Ada"))
    assert await put_field(wire, keys.controls(), FIELD, Pause, lambda _: None) is None
    assert not store.exists(keys.controls())
    assert await put_if(wire, keys.controls(), FIELD, b"{}", b"what stood") == b"", "it is told that nothing stands"
