"""The audit log: whoever acts is written down, with what came of it, whatever they act by."""

import getpass
import json
import re
import socket
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
import structlog
from starlette.testclient import TestClient

from stepstream import create_app
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.checkpoint.audit_log import acts
from tests.support import ROOT, Lab
from tests.system.test_commands import bus
from tests.system.test_keys import asked_of, asking
from tests.system.test_roles import SECRETS, shown_by

if TYPE_CHECKING:
    import redis


@pytest.fixture
def keyed(settings: Settings) -> Settings:
    tokens = tuple(f"{role}@{role}er:{secret}" for role, secret in SECRETS.items())
    return msgspec.structs.replace(settings, api_tokens=tokens, event_keys=("event-key-1",))


@pytest.fixture
def http(keyed: Settings) -> Generator[TestClient]:
    with TestClient(create_app(configured=keyed), base_url="http://localhost", client=("10.1.2.3", 999)) as client:
        yield client


def written(store: "redis.Redis") -> list[dict[str, str]]:
    """Return what redis-cli shows, oldest first."""
    return [fields for _, fields in store.xrange(keys.audit())]  # type: ignore[misc]


async def test_every_route_by_which_somebody_acts_is_written_down(keyed: Settings, lab: Lab) -> None:
    site = create_app(configured=keyed)
    expected: list[tuple[str, str]] = []
    async with asking(site) as asked:
        for route, method, path in asked_of(site):
            if route.needs in SECRETS and method != "HEAD":
                await asked(method, path.partition("?")[0] if route.acts else path, shown_by("admin"))
                if route.acts:
                    expected.append((str(route.name).removeprefix("api_"), "adminer"))
                elif method != "GET":
                    asks = {"log_out", "api_operation_count", "sdk_gql", "sdk_realtime_token"}
                    assert route.name in asks, f"{method} {route.path} acts, and nobody would know"
    found = (await acts(lab.wire, limit=1_000)).acts
    assert sorted((one.what, one.who) for one in found) == sorted(expected)


def test_an_act_says_who_what_to_what_by_what_from_where_and_what_came_of_it(
    http: TestClient, store: "redis.Redis"
) -> None:
    assert http.post("/v1/event-names/order%2Fpaid/pause", headers=shown_by("operate")).status_code == 200
    assert http.post("/v1/signals", json={"signal": "approve/o1"}, headers=shown_by("operate")).status_code == 404
    assert http.post("/v1/event-names/order%2Fpaid/resume", headers=shown_by("read")).status_code == 403
    by = {"way": "the API", "source": "10.1.2.3"}
    assert written(store) == [
        {**by, "who": "operateer", "what": "pause_event", "on": "order/paid", "outcome": "done"},
        {
            **by,
            "who": "operateer",
            "what": "signal",
            "on": "approve/o1",
            "outcome": "no run waits for signal 'approve/o1'",
        },
        {
            **by,
            "who": "reader",
            "what": "resume_event",
            "on": "order/paid",
            "outcome": "this needs the role operate, and reader has the role read",
        },
    ]


def test_an_operation_is_told_with_its_filters_as_people_write_them(http: TestClient, store: "redis.Redis") -> None:
    """It said `cancel None runs status=['queued']`."""
    query = {"status": ["queued", "waiting"], "since": "1h"}
    asked = http.post("/v1/operations", json={"kind": "cancel", "query": query}, headers=shown_by("operate"))
    assert asked.status_code == 201, asked.text
    assert written(store)[0]["on"] == "cancel all runs status=queued,waiting since=1h"


def test_it_is_for_admins_in_the_api_and_on_its_page_newest_first(http: TestClient) -> None:
    for name in ("a", "b", "c"):
        http.post(f"/v1/event-names/{name}/pause", headers=shown_by("operate"))
    assert http.get("/v1/audit", headers=shown_by("operate")).status_code == 403
    first = http.get("/v1/audit?limit=2&fields=on,who", headers=shown_by("admin")).json()
    assert first["data"] == [{"on": "c", "who": "operateer"}, {"on": "b", "who": "operateer"}]
    rest = http.get(f"/v1/audit?cursor={first['cursor']}", headers=shown_by("admin")).json()
    assert [one["on"] for one in rest["data"]] == ["a"]
    assert rest["cursor"] is None
    for cursor in ("x", "1", "99999999999999999999-0", "1-2-3"):
        assert http.get(f"/v1/audit?cursor={cursor}", headers=shown_by("admin")).status_code == 400, cursor
    assert http.get("/audit", headers={**shown_by("read"), "accept": "text/html"}).status_code == 403
    page = http.get("/audit", headers={**shown_by("admin"), "accept": "text/html"}).text
    assert page.index(">c<") < page.index(">b<") < page.index(">a<")
    assert "operateer" in page
    assert "10.1.2.3" in page


def test_a_command_is_written_down_by_who_ran_it(url: str, store: "redis.Redis") -> None:
    bus("pause", "--event", "order/paid", url=url)
    [act] = json.loads(bus("audit", "--json", url=url))["acts"]
    who = f"{getpass.getuser()}@{socket.gethostname()}"
    assert (act["who"], act["way"], act["what"], act["on"]) == (who, "a command", "pause_event", "order/paid")
    assert "pause_event" in bus("audit", url=url)


async def test_what_is_written_by_hand_or_from_a_newer_version_does_not_hide_the_rest(lab: Lab) -> None:
    await lab.wire.call("XADD", keys.audit(), "*", "who", "ann", "mood", "good")
    [found] = (await acts(lab.wire, limit=10)).acts
    assert (found.who, found.what, found.outcome) == ("ann", "", "")


def test_an_act_that_redis_does_not_take_down_is_done_and_in_the_log(
    http: TestClient, url: str, store: "redis.Redis"
) -> None:
    store.set(keys.audit(), "not a stream")
    with structlog.testing.capture_logs() as logs:
        assert http.post("/v1/event-names/a/pause", headers=shown_by("operate")).status_code == 200
    told = {"who": "operateer", "what": "pause_event", "on": "a", "log_level": "error"}
    assert any(told.items() <= line.items() for line in logs), logs
    assert "paused" in bus("pause", "--event", "b", url=url)


async def test_a_page_of_acts_ends_where_the_log_does(lab: Lab) -> None:
    for n in range(3):
        await lab.wire.call("XADD", keys.audit(), f"{n + 1}-0", "who", str(n))
    page = await acts(lab.wire, limit=3)
    assert ([one.who for one in page.acts], page.cursor) == (["2", "1", "0"], None)


def test_an_act_has_one_name_whatever_it_is_done_by() -> None:
    """The page paused with `pause_function`, the API with `pause`: who looked for one did not find the other."""
    acting = [route for route, _, _ in asked_of(create_app(configured=Settings())) if route.acts]
    by_api = {str(route.name).removeprefix("api_") for route in acting if str(route.name).startswith("api_")}
    by_page = {str(route.name) for route in acting if not str(route.name).startswith(("api_", "sdk_"))}
    calls = re.findall(r'acted\(\s*wire,\s*"(\w+)"', "".join(path.read_text() for path in sources()))
    assert len(calls) > 20
    assert by_page - by_api == {"send_event"}, "the API sends by /e, which is no act of a person"
    assert by_api - by_page == {"cancel_many", "cancellation_end", "rerun_many"}, "bulk acts of Inngest's API"
    of_commands = {
        "add_user",
        "delete_blobs",
        "change_password",
        "change_role",
        "remove_user",
        "forget_app",
        "sync_app",
    }
    assert set(calls) - by_api == of_commands, "what only commands do"


def sources() -> Iterator[Path]:
    for room in ("checkpoint", "producers", "web", "consumers"):
        yield from (ROOT / room).rglob("*.py")
