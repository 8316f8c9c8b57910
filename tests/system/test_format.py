"""The store's format: a worker reads one, and tells the way out of another."""

import pytest

from stepstream import Context, Step
from stepstream.bus.errors import ConfigError
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.registry import FORMAT, check_format
from tests.support import Lab


@pytest.mark.parametrize(
    ("found", "way_out"),
    [
        (1, "end their runs"),
        (FORMAT - 1, "end their runs"),
        (FORMAT - 1, "use another database"),
        (FORMAT + 1, "upgrade it"),
    ],
)
async def test_a_store_of_another_format_is_refused_with_the_way_out(wire: Wire, found: int, way_out: str) -> None:
    await wire.call("HSET", keys.meta(), "format", found)
    with pytest.raises(ConfigError, match=way_out):
        await check_format(wire)
    assert await wire.call("HGET", keys.meta(), "format") == str(found).encode()


async def test_a_run_says_which_format_its_record_has(lab: Lab) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> None: ...

    await lab.work()
    await lab.send("a")
    run = await lab.one()
    assert await lab.wire.call("HGET", keys.run(run.function, run.id), "format") == str(FORMAT).encode()
