"""Retries in words, as pages and commands tell them of a function whose code they have not loaded."""

import pytest

from stepstream import Bus, Context, Exponential, Retry, Step
from stepstream.bus.wire.registering import declaration


@pytest.mark.parametrize(
    ("retry", "words"),
    [
        (Retry(0), ""),
        (Retry(1), "after 15 s, each up to 30 s later"),
        (Retry(4), "after 15 s, 30 s, 1 min, 2 min, each up to 30 s later"),
        (Retry(20), "after 15 s, 30 s, 1 min, 2 min, … 2 h, each up to 30 s later"),
        (Retry(3, backoff=0.5), "after 500 ms"),
        (Retry(3, backoff=["1s", "1m"]), "after 1 s, 1 min, 1 min"),
        (Retry(20, backoff=Exponential("1s", max="1h")), "after 1 s, 2 s, 4 s, 8 s, … 1 h"),
    ],
)
def test_how_long_a_step_waits_is_told_with_what_chance_adds(retry: Retry, words: str) -> None:
    assert retry.words == words
    app = Bus("t")

    @app.function("f", on="a", retries=retry)
    async def f(ctx: Context, step: Step) -> None: ...

    assert declaration(app.functions["f"]).waits == words
