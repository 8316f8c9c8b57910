"""A pytest plugin: the fixture `harness` makes a Harness; `--bus-url` runs the same tests on a real server.

async def test_orders(harness):
    async with harness(app) as bus:
        await bus.send(OrderPaid(order_id="o1"))
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from stepstream.consumers.testing.harness import Harness


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --bus-url."""
    parser.getgroup("stepstream").addoption(
        "--bus-url",
        default=None,
        metavar="URL",
        help="run what uses the fixture `harness` on this Redis, which is emptied for each, instead of one of its own",
    )


@pytest.fixture
def harness(request: pytest.FixtureRequest) -> "Callable[..., Harness]":
    """Return what makes a Harness: `async with harness(app) as bus:`."""
    from stepstream.consumers.testing.harness import Harness

    url: str | None = request.config.getoption("--bus-url")
    return partial(Harness, url=url, flush=url is not None)
