"""A key of which another type of value has the name spoils what it would tell, and nothing else: it is said in words."""

import asyncio
import html
import re
from collections.abc import Sequence

import pytest
import redis
from starlette.testclient import TestClient

from stepstream import Batch, Concurrency, Context, Cron, Step, create_app
from stepstream.bus.errors import WrongType
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.bus.wire.once import once
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.controls.ordered import controls
from stepstream.checkpoint.controls.pauses import pause_event, resume_event
from stepstream.checkpoint.registry import functions
from tests.support import Lab, eventually, fields
from tests.system.test_commands import bus

pytestmark = pytest.mark.leaves_behind("keys of the wrong type")
PAGES = ("/", "/runs", "/runs?function=test-f", "/events", "/functions", "/limits", "/schedules", "/workers", "/errors",
         "/system", "/operations", "/alerts", "/apps", "/search?q=test", "/functions/test-held", "/event-names/a")  # fmt: skip
LISTS = ("runs", "functions", "functions/test-held", "event-names", "streams", "limits", "schedules", "delayed",
         "events", "errors", "workers", "paused", "operations", "cancellations", "apps", "system", "alerts", "find?q=test")  # fmt: skip
ROOTS = r":runs:|:(buffered|ready|full)$|^bus:[a-z-]+$"
"""Those that tell which others are looked for."""
UNSEEN = r":(log|steps|open|attempts|minute):|^bus:events:.*:(workers|served)$|:(erred|cancels|ends)$|(f|held)}:timers$|triggers$"
"""Those that no list reads, or only where something is wrong."""


async def work_of_all_kinds(lab: Lab, store: "redis.Redis") -> None:
    """Leave runs that failed, wait, are in line and are held back, and a schedule."""

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


async def test_each_key_of_a_wrong_type_spoils_only_what_it_would_tell(lab: Lab, store: "redis.Redis") -> None:
    """One stream of a wrong type made the page of functions, that of events and the front page answer 500."""

    await work_of_all_kinds(lab, store)
    with TestClient(create_app(configured=lab.settings)) as http:
        every = [key for key in sorted(store.scan_iter()) if store.type(key) != "string" and key != keys.meta()]
        roots = [key for key in every if re.search(ROOTS, key) and key != keys.functions()]
        leaves = [key for key in every if not re.search(ROOTS, key)]
        for spoilt in (leaves, roots, [keys.functions()]):
            told = asked(http, store, spoilt)
            if spoilt != [keys.functions()]:
                assert {path: status for path, (status, _) in told.items() if status != 200} == {}
            words = "".join(text for _, text in told.values())
            untold = [key for key in spoilt if f"{key} holds another kind of value" not in words]
            assert [key for key in untold if not re.search(UNSEEN, key)] == [], "no page says of it"


def test_a_list_that_cannot_be_read_is_not_told_as_empty(url: str, settings: Settings, store: "redis.Redis") -> None:
    """`bus functions` said that there are none yet, beside a `bus:functions` that is no hash."""
    for key in (
        keys.functions(),
        keys.workers(),
        keys.apps(),
        keys.controls(),
        keys.delayed_names(),
        keys.event_names(),
    ):
        store.set(key, "no such thing")
    for words in ("functions", "top --once", "workers", "limits", "schedules", "errors", "runs", "events", "streams",
                  "apps", "pause", "delayed"):  # fmt: skip
        told = bus(*words.split(), url=url)
        assert "nothing is seen, for" in told, words
        assert " yet" not in told, words
    with TestClient(create_app(configured=settings)) as http:
        pages = [http.get(path, headers={"accept": "text/html"}).text for path in ("/", "/functions", "/workers")]
        assert all('<main id="main" tabindex="-1" class="partly"' in page for page in pages), "and pages hide that, too"


@pytest.mark.parametrize("junk", [b"\xff\xfe{", b"9" * 16], ids=["no text", "no moment"])
async def test_what_is_written_into_a_key_by_hand_hides_nothing_else(
    lab: Lab, store: "redis.Redis", junk: bytes
) -> None:
    """One number of one run made the list of all runs answer 500, one event that is no JSON that of all events."""
    await work_of_all_kinds(lab, store)
    own = [run.id for run in await lab.runs()]
    pages = [f"/runs/{run}" for run in own]
    lists = [f"runs/{run}{more}" for run in own for more in ("", "/steps?fields=data", "/log", "/family")]
    with (
        TestClient(create_app(configured=lab.settings)) as http,
        redis.Redis.from_url(lab.admin.settings.redis_url) as raw,
    ):
        every = [key for key in raw.scan_iter() if raw.type(key) != b"string" and key != keys.meta().encode()]
        roots = [key for key in every if re.search(ROOTS, key.decode())]
        for spoilt in ([key for key in every if key not in roots], roots):
            for key in spoilt:
                raw.copy(key, b"kept " + key)
                spoil(raw, key, junk)
            told = asked(http, store, [], pages, lists)
            for key in spoilt:
                raw.rename(b"kept " + key, key)
            assert {path: status for path, (status, _) in told.items() if status >= 500} == {}


def spoil(raw: "redis.Redis", key: bytes, junk: bytes) -> None:
    match raw.type(key):
        case b"hash":
            raw.hset(key, mapping=dict.fromkeys([*raw.hkeys(key), junk], junk))
        case b"zset":
            raw.zadd(key, {junk: "inf", junk + b"|a|b": 5e15})
        case b"stream":
            raw.xadd(key, dict.fromkeys((b"id", b"name", b"data", b"ts", b"run", b"turn"), junk))
        case _:
            raw.rpush(key, junk)


def asked(
    http: TestClient, store: "redis.Redis", spoilt: list[str], pages: Sequence[str] = (), lists: Sequence[str] = ()
) -> dict[str, tuple[int, str]]:
    """Return what pages and lists answer meanwhile. The worker's loop is this one: it stands still."""
    for key in spoilt:
        store.rename(key, f"kept {key}")
        store.set(key, "written by hand")
    try:
        answers = {path: http.get(path, headers={"accept": "text/html"}) for path in (*PAGES, *pages)}
        answers |= {path: http.get(f"/v1/{path}") for path in (*LISTS, *lists)}
        return {path: (answer.status_code, html.unescape(answer.text)) for path, answer in answers.items()}
    finally:
        for key in spoilt:
            store.rename(f"kept {key}", key)


async def test_a_declaration_that_was_written_by_hand_is_told_and_made_anew(lab: Lab, store: "redis.Redis") -> None:
    """Its page answered 500, and no worker that has the function started any more."""

    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict], step: Step) -> int:
        return 1

    store.hset(keys.functions(), "test-f", "written by hand")
    with TestClient(create_app(configured=lab.settings)) as http:
        for answer in (http.get("/v1/functions/test-f"), http.post("/v1/functions/test-f/pause")):
            assert (answer.status_code, answer.json()["code"]) == (409, "declaration_unreadable")
        assert "a field of bus:functions holds another kind of value" in http.get("/functions").text
    await lab.work()
    await lab.send("a")
    assert await lab.output() == 1


def test_a_page_that_answers_a_form_is_shown_without_what_cannot_be_read(
    settings: Settings, store: "redis.Redis"
) -> None:
    """ "Examine", for who looks for such a key, answered 500 while there was one; so did a form that was refused."""
    with TestClient(create_app(configured=settings)) as http:
        http.post("/e/x", json={"name": "a", "data": {}})
        store.rename(keys.events("a"), "kept")
        store.set(keys.events("a"), "written by hand")
        form = fields(http.get("/event-names/a", headers={"accept": "text/html"}).text)
        for path, more, status in (("/system/examine", {}, 200), ("/events/send", {"name": "a", "json": "{"}, 400)):
            answer = http.post(path, data={**form, "as": "json", **more}, headers={"accept": "text/html"})
            assert answer.status_code == status
            assert "bus:events:{a} holds another kind of value" in answer.text


async def test_what_stands_for_a_pause_and_is_none_keeps_nobody_from_pausing(wire: Wire, store: "redis.Redis") -> None:
    """It answered 500, and paused nothing. The name of an event may have spaces, and could then not be paused."""
    store.hset(keys.controls(), "paused event order paid", "written by hand")
    assert (await controls(wire)).paused.events == {}
    made = await pause_event(wire, "order paid", "Ada")
    assert (await controls(wire)).paused.events == {"order paid": made}
    assert await pause_event(wire, "order paid", "Bob") == made
    assert await resume_event(wire, "order paid")
    assert (await controls(wire)).paused.events == {}


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
    assert "bus:functions holds another kind of value" in capsys.readouterr().err
    with pytest.raises(WrongType):
        once(functions)
