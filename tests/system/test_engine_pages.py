"""The pages of schedules and of errors: what they show, and that their buttons act once; no worker runs."""

import html
import re
from collections.abc import Generator
from typing import Any

import msgspec
import pytest
import redis
from starlette.testclient import TestClient

from stepstream import Cron, create_app
from stepstream.bus.cron import Cron as Schedule
from stepstream.bus.settings import Settings
from stepstream.bus.values import codec
from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.ids import run_id, ulid
from stepstream.bus.wire import keys
from stepstream.bus.wire.registering import Registered
from stepstream.checkpoint.facts.errors import ErrorGroup
from stepstream.web.pages.engine.errors import groups_of
from tests.system.test_commands import bus

ODD = 'x<b>"q"</b>\u202eevil'
DAILY = Cron("30 9 * * 1-5", tz="Europe/Paris")


@pytest.fixture
def http(settings: Settings) -> Generator[TestClient]:
    with TestClient(create_app(configured=settings)) as client:
        yield client


def declare(store: "redis.Redis", slug: str, *on: str, flow: tuple[str, ...] = (), **more: Any) -> None:
    one = Registered("t", slug, ODD, slug, on, (), 4, "code", flow, **more)
    store.hset(keys.functions(), slug, codec.encode(one))


def failed(store: "redis.Redis", slug: str, mark: str, name: str, **facts: Any) -> None:
    about = {"name": name, "frame": "shop/pay.py: <lambda>", "message": f"{ODD}\nand more"}
    fields = {mark: msgspec.json.encode(about)} | {f"{mark} {word}": value for word, value in facts.items()}
    store.hset(keys.errors(slug), mapping=fields)


def form(page: str, button: str) -> tuple[str, dict[str, str]]:
    """Return where the form of a button leads, and what its browser sends."""
    found = next(one for one in re.findall(r"<form method=.*?</form>", page, re.DOTALL) if button in one)
    names = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', found)
    action = re.search(r'action="([^"]*)"', found)
    assert action is not None
    return html.unescape(action[1]), {name: html.unescape(value) for name, value in names}


def press(http: TestClient, page: str, button: str, **more: str) -> str:
    """Press a button; return where its browser is sent on."""
    action, sent = form(page, button)
    answer = http.post(action, data={**sent, **more}, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def test_a_schedule_is_told_in_words_with_its_last_tick_and_the_next_ones(
    http: TestClient, store: "redis.Redis"
) -> None:
    declare(store, "t-report", DAILY.text, "order/paid")
    tick = DAILY.last_before(now_ms())
    run = run_id("t-report", "cron", f"{DAILY.text}|{tick}", tick, "00")
    store.hset(keys.cron("t-report"), DAILY.text, tick)
    page = http.get("/schedules").text
    assert "At 09:30, Monday through Friday" in page
    assert "Europe/Paris" in page
    assert page.count("<time") >= 7
    assert "no run of it is there" in page
    assert "no worker serves it" in page
    store.hset(keys.run("t-report", run), mapping={"status": "running"})
    assert f"/runs/{run}" in http.get("/schedules").text
    store.hset(keys.cron("t-report"), DAILY.text, DAILY.last_before(DAILY.last_before(tick - 1) - 1))
    assert "no worker serves it: 2 ticks missed" in http.get("/schedules").text


def test_running_a_schedule_now_twice_makes_one_run(http: TestClient, store: "redis.Redis") -> None:
    declare(store, "t-report", DAILY.text)
    page = http.get("/schedules").text
    first, second = (press(http, page, "Run now") for _ in range(2))
    assert first == second, "one form, one run"
    assert press(http, http.get("/schedules").text, "Run now") != first
    entries = store.xrange(keys.queue("t-report"))
    assert {entry[1]["source"] for entry in entries} == {"cron"}
    event = codec.decode(entries[0][1]["event"])
    assert (event["name"], event["data"]["cron"]) == ("bus/cron.tick", "30 9 * * 1-5")
    action, sent = form(page, "Run now")
    for changed in ({"schedule": "cron * * * * *"}, {"at": "x"}, {"at": "1"}):
        assert http.post(action, data={**sent, **changed}).status_code == 400
    assert http.post(action, data={**sent, "token": "x"}).status_code == 403
    assert http.get(action).status_code == 405
    assert len(store.xrange(keys.queue("t-report"))) == len(entries)


@pytest.mark.parametrize(
    "text", ["cron", "cron if a == b c", "cron  * * * * *", "cron * * * *", "cron * * * * * Mars/Base", "order/paid"]
)
def test_what_is_no_schedule_is_none(text: str) -> None:
    assert Schedule.of(text) is None


def test_a_schedule_of_a_day_of_the_month_and_of_the_week_is_due_on_either() -> None:
    assert Schedule("0 0 1 * 1").words == "At 00:00, on day 1 of the month; and At 00:00, only on Monday"
    assert Schedule.of("cron 0 0 1 * 1") == Schedule("0 0 1 * 1")


def test_errors_are_groups_over_functions_and_one_that_is_open_somewhere_is_open() -> None:
    [one] = groups_of(
        [
            ErrorGroup("t-f", "aa", "Boom", "f.py: pay", "old", 1, 5, 9, "r1", state="resolved"),
            ErrorGroup("t-g", "aa", "Boom", "f.py: pay", "new", 2, 7, 3, "r2"),
        ]
    )
    assert (one.functions, one.count, one.first, one.last, one.run) == (("t-f", "t-g"), 12, 1, 7, "r2")
    assert (one.message, one.state) == ("new", "open")
    assert one.runs == "?status=failed&error=aa&function=t-f&function=t-g"


def test_an_error_is_resolved_muted_and_opened_again_by_its_buttons(http: TestClient, store: "redis.Redis") -> None:
    for slug in ("t-f", "t-g"):
        declare(store, slug)
        failed(store, slug, "aabbccddeeff", "Boom<i>", first=1, last=now_ms(), count=3, run="01KB")
    page = http.get("/errors").text
    assert "Boom&lt;i&gt;" in page
    assert "<b>" not in page
    assert (
        "/operations/new?status=failed&amp;error=aabbccddeeff&amp;function=t-f&amp;function=t-g&amp;kind=rerun" in page
    )
    assert "open 1" in page
    assert press(http, page, ">Resolve") == press(http, page, ">Resolve") == "/errors?state=open"
    assert "open 0" in http.get("/errors").text
    assert store.hget(keys.errors("t-g"), "aabbccddeeff state") == "resolved"
    page = http.get("/errors?state=resolved").text
    assert press(http, page, ">Open again") == "/errors?state=resolved"
    press(http, http.get("/errors").text, ">Mute", **{"for": "1h"})
    assert "muted until" in http.get("/errors?state=muted").text
    assert http.get("/errors?state=odd").status_code == 400


def test_an_error_that_came_again_since_is_not_put_away_unseen(http: TestClient, store: "redis.Redis") -> None:
    declare(store, "t-f")
    failed(store, "t-f", "aabbccddeeff", "Boom", first=1, last=2, count=3)
    page = http.get("/errors").text
    store.hset(keys.errors("t-f"), "aabbccddeeff regressed", now_ms() + 60_000)
    press(http, page, ">Resolve")
    assert "was resolved, came again" in http.get("/errors").text


def test_where_there_is_nothing_the_one_next_command_is_told(http: TestClient) -> None:
    assert "bus worker" in http.get("/schedules").text
    assert "bus runs" in http.get("/errors").text
    assert "No error is muted." in http.get("/errors?state=muted").text
    for path in ("/schedules", "/errors"):
        assert f'href="{path}"' in http.get("/").text, "in the top bar"


def test_its_function_is_paused_and_resumed_there_and_a_tick_is_begun_by_the_api_and_the_terminal(
    http: TestClient, store: "redis.Redis", url: str
) -> None:
    declare(store, "t-report", DAILY.text)
    declare(store, "t-two", DAILY.text, Cron("0 4 * * *").text)
    declare(store, "t-none", "a")
    page = http.get("/schedules?after=t-none").text
    for _ in range(2):
        assert press(http, page, "Pause t-report") == "/schedules"
    page = http.get("/schedules").text
    assert "paused by the status page: its ticks wait in line" in page
    [one] = http.get("/v1/schedules", params={"function": "t-report"}).json()["data"]
    assert (one["text"], one["paused"]["by"]) == (DAILY.text, "the status page")
    for _ in range(2):
        assert press(http, page, "Resume t-report") == "/schedules"
    assert "paused by" not in http.get("/schedules").text
    asked = {"request": ulid()}
    runs = {http.post("/v1/functions/t-report/tick", json=asked).json()["data"]["id"] for _ in range(2)}
    assert runs == {entry["run"] for _, entry in store.xrange(keys.queue("t-report"))}, "asked twice it is one"
    several = http.post("/v1/functions/t-two/tick")
    assert (several.status_code, "say which" in several.json()["error"]) == (400, True)
    assert http.post("/v1/functions/t-two/tick", json={"schedule": DAILY.text}).status_code == 200
    assert "bus invoke t-none" in http.post("/v1/functions/t-none/tick").json()["error"]
    assert http.post("/v1/functions/none/tick").status_code == 404
    assert http.post("/v1/functions/t-report/tick", json={"request": "1"}).status_code == 400
    assert "At 09:30, Monday" in bus("schedules", "t-report", url=url)
    assert bus("schedules", "run", "t-report", url=url).strip() in http.get("/functions/t-report").text + str(
        store.xrange(keys.queue("t-report"))
    )
    assert http.get("/functions/t-two").text.count("Run now:") == 2
