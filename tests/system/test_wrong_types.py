"""A key of which another type of value has the name spoils what it would tell, and nothing else: it is said in words."""

import asyncio
import html
import re

import pytest
import redis
from starlette.testclient import TestClient

from stepstream import Batch, Concurrency, Context, Cron, Step, create_app
from stepstream.bus.errors import WrongType
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.bus.wire.once import once
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.registry import functions
from tests.support import Lab, eventually

pytestmark = pytest.mark.leaves_behind("keys of the wrong type")
PAGES = ("/", "/runs", "/runs?function=test-f", "/events", "/functions", "/limits", "/schedules", "/workers", "/errors",
         "/system", "/operations", "/apps", "/search?q=test", "/functions/test-held", "/event-names/a")  # fmt: skip
LISTS = ("runs", "functions", "functions/test-held", "event-names", "streams", "limits", "schedules", "delayed",
         "events", "errors", "workers", "paused", "operations", "cancellations", "find?q=test")  # fmt: skip
ROOTS = r":runs:|:(buffered|ready|full)$|^bus:[a-z-]+$"
"""Those that tell which others are looked for."""
UNSEEN = r":(log|steps|open|attempts|minute):|^bus:events:.*:(workers|served)$|:(erred|cancels|ends)$|(f|held)}:timers$|triggers$"
"""Those that no list reads, or only where something is wrong."""


async def test_each_key_of_a_wrong_type_spoils_only_what_it_would_tell(lab: Lab, store: "redis.Redis") -> None:
    """One stream of a wrong type made the page of functions, that of events and the front page answer 500."""

    @lab.app.function("f", on=["a", "b/*", Cron("0 0 1 1 *")], retries=0)
    async def f(ctx: Context[dict], step: Step) -> object:
        raise ValueError("no")

    @lab.app.function("held", on="held", retries=0, concurrency=Concurrency(1, key="event.data.key"))
    async def held(ctx: Context[dict], step: Step) -> None:
        await step.wait_for_event("w", "never", match="data.key", timeout="1h")
        await step.run("long", asyncio.sleep, 3_600)

    @lab.app.function("many", on="many", batch=Batch(9, "1h"))
    async def many(ctx: Context[dict], step: Step) -> None: ...

    await lab.work()
    await lab.send("a", {})
    await lab.ended(1)
    await lab.send("many", {})
    for _ in range(2):
        await lab.send("held", {"key": "k e y"})
    await lab.some(2, "test-held")

    async def buffered() -> bool:
        return bool(store.exists(keys.buffered("test-many")))

    await eventually(buffered, "a batch is held back")
    with TestClient(create_app(configured=lab.settings)) as http:
        every = [key for key in sorted(store.scan_iter()) if store.type(key) != "string" and key != keys.meta()]
        roots = [key for key in every if re.search(ROOTS, key) and key != keys.functions()]
        leaves = [key for key in every if not re.search(ROOTS, key)]
        for spoilt in (leaves, roots, [keys.functions()]):
            told = asked(http, store, spoilt)
            if spoilt != [keys.functions()]:
                assert {path: status for path, (status, _) in told.items() if status != 200} == {}
            words = "".join(text for _, text in told.values())
            untold = [key for key in spoilt if f"{key} holds another type of value" not in words]
            assert [key for key in untold if not re.search(UNSEEN, key)] == [], "no page says of it"


def asked(http: TestClient, store: "redis.Redis", spoilt: list[str]) -> dict[str, tuple[int, str]]:
    """Return what pages and lists answer meanwhile. The worker's loop is this one: it stands still."""
    for key in spoilt:
        store.rename(key, f"kept {key}")
        store.set(key, "written by hand")
    try:
        answers = {path: http.get(path, headers={"accept": "text/html"}) for path in PAGES}
        answers |= {path: http.get(f"/v1/{path}") for path in LISTS}
        return {path: (answer.status_code, html.unescape(answer.text)) for path, answer in answers.items()}
    finally:
        for key in spoilt:
            store.rename(f"kept {key}", key)


async def test_who_acts_is_told_and_passes_over_nothing(wire: Wire, store: "redis.Redis") -> None:
    store.set(keys.functions(), "written by hand")
    with pytest.raises(WrongType):
        await functions(wire)


def test_a_command_that_lists_says_which_key_it_could_not_read(
    settings: Settings,
    store: "redis.Redis",
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store.set(keys.functions(), "written by hand")
    monkeypatch.setenv("BUS_REDIS_URL", settings.redis_url)
    assert once(functions, shows=True) == []
    assert "bus:functions holds another type of value" in capsys.readouterr().err
    with pytest.raises(WrongType):
        once(functions)
