"""Shared places: a place that was given back stays so, whatever the lease thread is doing meanwhile."""

import asyncio
import threading
from typing import Any, cast

from stepstream.bus.bus import Bus
from stepstream.bus.limits.rules import Concurrency
from stepstream.bus.observe.signals import Signals
from stepstream.bus.values.address import address
from stepstream.bus.wire import keys
from stepstream.bus.wire.connection import opening
from stepstream.bus.wire.leases import Leases
from stepstream.bus.wire.wire import Wire
from stepstream.consumers.delivery.delivery import Feed, StreamGroup
from stepstream.consumers.limits.shared_places import SharedPlaces
from tests.patience import PATIENT_S

app = Bus("test")


@app.function("f", on="a", concurrency=Concurrency(1, shared="gpu", key="'k'"))
async def f(ctx, step):
    return None


class SlowClient:
    """The lease thread's client on a slow network: what it sends arrives when the test says so."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.sending = threading.Event()
        self.arrives = threading.Event()

    def pipeline(self, **options: Any) -> Any:
        pipe = self._client.pipeline(**options)
        execute = pipe.execute

        def slowly(**how: Any) -> Any:
            self.sending.set()
            assert self.arrives.wait(PATIENT_S)
            return execute(**how)

        pipe.execute = slowly
        return pipe


class _Lease:
    consumer = "w.0"


async def test_a_renewal_under_way_does_not_put_back_a_place_that_is_given_back(wire: Wire) -> None:
    leases = Leases(wire.settings, "w", lambda *_: None, lambda *_: None)
    places = SharedPlaces(wire, Signals(), leases)
    feed = Feed(StreamGroup.of_function("queue", f.slug), cast("Any", _Lease()), f, cast("Any", None))
    fields = {b"run": b"r1", b"turn": b"1", b"holds": b"c0:k"}
    (delivery,) = feed.receive([("1-0", fields)], "w.0")
    assert await places.take(f, delivery)
    limit, holder = keys.limit("gpu=k"), f"{f.slug}|r1|1"
    assert await wire.call("ZSCORE", limit, holder) is not None

    client = SlowClient(opening.threaded(address(wire.settings.redis_url), 5.0))
    renewing = asyncio.create_task(asyncio.to_thread(leases._renew_places, client))
    await asyncio.to_thread(client.sending.wait, 10.0)
    places.give_back(delivery)
    await asyncio.sleep(0.1)
    client.arrives.set()
    await renewing
    await places.settled()
    assert await wire.call("ZSCORE", limit, holder) is None
    feed.drop(delivery)
