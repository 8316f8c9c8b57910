"""What a Python application registers of its functions, and what a worker that has not loaded them makes of it."""

from typing import Any

from stepstream import (
    Batch,
    Bus,
    CancelOn,
    Concurrency,
    Context,
    Cron,
    Debounce,
    On,
    RateLimit,
    Retry,
    Singleton,
    Step,
    Throttle,
    Timeouts,
)
from stepstream.checkpoint.apps import App
from stepstream.consumers.remote.functions import bus_of
from stepstream.consumers.served.declaring import configs_of


async def handler(ctx: Context[Any], step: Step) -> None: ...


def test_every_option_means_what_it_means_in_a_worker() -> None:
    app = Bus("shop")
    app.function(
        "ship",
        on=[
            On("order/paid", if_="event.data.n > 1", from_="start"),
            "shop/*",
            Cron("0 4 * * *", tz="Europe/Paris", catch_up=True),
        ],
        retries=Retry(2, backoff=[0.5, 3]),
        cancel_on=[
            CancelOn("order/cancelled", match="data.id"),
            CancelOn("all/stop", if_="async.data.x == event.data.y"),
        ],
        timeouts=Timeouts(start="1m", finish="1h"),
        concurrency=[Concurrency(3, key="event.data.k", shared="db"), Concurrency(5)],
        throttle=Throttle(2, "10s", burst=1, key="event.data.k"),
        rate_limit=RateLimit(7, "1m", key="event.data.k"),
        singleton=Singleton("skip", key="event.data.id"),
        priority="event.data.p",
        name="Ships",
        on_failure=handler,
    )(handler)
    app.function("quiet", on="order/paid", debounce=Debounce("5s", key="event.data.k", timeout="1m"))(handler)
    app.function("many", on="order/paid", batch=Batch(10, "5s", key="event.data.k", if_="event.data.n > 1"))(handler)
    app.function("once", on="order/paid", idempotency="event.data.id")(handler)
    functions = {one["id"]: one for one in configs_of(app.functions.values(), "http://127.0.0.1:1/api/inngest")}
    made = bus_of(App(name="shop", url="http://127.0.0.1:1/api/inngest", functions=functions))
    for id, own in app.functions.items():
        there = made.functions[id]
        assert (there.slug, there.name, there.retry.retries) == (own.slug, own.name, own.retry.retries)
        assert there.crons == own.crons
        assert there.flow.texts == tuple(text.replace(" 86400 ", " 86400000ms ") for text in own.flow.texts)
        assert [(c.name, c.match, c.if_) for c in there.cancel_on] == [(c.name, c.match, c.if_) for c in own.cancel_on]
        assert there.timeouts.start_ms == own.timeouts.start_ms
        assert there.timeouts.finish_ms == own.timeouts.finish_ms
        if not id.endswith("-failure"):
            assert [(t.text, t.from_start) for t in there.triggers] == [(t.text, t.from_start) for t in own.triggers]
    assert [made.functions["ship"].retry.delay_ms(n) for n in range(3)] == [500, 3_000, 3_000]
    assert [t.text for t in made.functions["ship-failure"].triggers] == [
        "bus/function.failed if event.data.function_id == 'shop-ship'"
    ]
