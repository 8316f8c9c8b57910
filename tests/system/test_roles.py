"""Roles: who may call which route, asked of a site for each cell of docs/reference/roles.md."""

import re
from collections.abc import Generator
from pathlib import Path

import httpx2
import msgspec
import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse

from docs.make_roles import CALLERS
from stepstream import Context, Cron, Step, create_app
from stepstream.bus.errors import ConfigError
from stepstream.bus.settings import Settings
from stepstream.web.app import Site
from stepstream.web.routing import NeedsRoute, NeedsSocket
from tests.support import Lab
from tests.system.test_keys import asking

SIGNING, EVENT_KEY = "signkey-test-" + "a" * 64, "event-key-1"
SECRETS = {role: f"secret-of-{role}-tokens" for role in ("read", "operate", "admin")}
TABLE = Path(__file__).parents[2] / "docs/reference/roles.md"


@pytest.fixture
def keyed(settings: Settings) -> Settings:
    return msgspec.structs.replace(
        settings,
        signing_key=SIGNING,
        event_keys=(EVENT_KEY,),
        api_tokens=tuple(f"{role}@{role}er:{secret}" for role, secret in SECRETS.items()),
    )


@pytest.fixture
def http(keyed: Settings) -> Generator[TestClient]:
    with TestClient(create_app(configured=keyed), base_url="http://localhost") as client:
        yield client


def shown_by(caller: str) -> dict[str, str]:
    known = {**SECRETS, "signing key": SIGNING, "event key": EVENT_KEY}
    return {"authorization": f"Bearer {known[caller]}"} if caller in known else {}


def as_told() -> dict[tuple[str, str], list[str]]:
    """Return what the table says, by method and path as it writes them."""
    rows = re.findall(r"^\| ([A-Za-z]+) \| `(.+?)` \| (.+) \|$", TABLE.read_text(), re.MULTILINE)
    return {(method, path): cells.split(" | ") for method, path, cells in rows}


async def test_the_table_of_roles_is_what_a_site_does(keyed: Settings) -> None:
    found: dict[tuple[str, str], list[str]] = {}
    site = create_app(configured=keyed)
    async with asking(site) as asked:
        for route in (one for one in site.routes if isinstance(one, NeedsRoute)):
            for method in sorted((route.methods or set[str]()) - {"HEAD"}):
                row = found[method, route.path.replace(":path}", "}")] = []
                for caller in CALLERS:
                    key = EVENT_KEY if caller == "event key" else "x"
                    path = re.sub(r"[{][^}]+[}]", "x", route.path.replace("{key}", key)) + "?after=none"
                    status, _, told = await asked(method, path, shown_by(caller))
                    is_refused = status == 401 or (status == 403 and b"this needs the role" in told)
                    row.append("no" if is_refused else "yes")
                    if is_refused:
                        assert status == (403 if caller in SECRETS and route.needs in SECRETS else 401), (caller, path)
    as_written = as_told()
    assert {one: as_written.get(one) for one in found} == found
    assert {one for one in as_written if one[0] != "WebSocket"} == set(found)


def test_the_table_of_roles_is_what_sockets_do(http: TestClient) -> None:
    site = http.app
    assert isinstance(site, Site)
    found: dict[tuple[str, str], list[str]] = {}
    for route in (one for one in site.routes if isinstance(one, NeedsSocket)):
        row = found["WebSocket", route.path] = []
        for caller in CALLERS:
            try:
                with http.websocket_connect(route.path, ["v0.connect.inngest.com"], headers=shown_by(caller)):
                    row.append("yes")
            except WebSocketDenialResponse as refused:
                row.append("no" if refused.status_code == 401 else str(refused.status_code))
    assert {one: cells for one, cells in as_told().items() if one[0] == "WebSocket"} == found


def test_who_may_not_is_told_which_role_it_needs_and_which_they_have(http: TestClient) -> None:
    refused = http.post("/v1/signals", json={"signal": "x"}, headers=shown_by("read"))
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert refused.json()["error"] == "this needs the role operate, and reader has the role read"
    page = http.post("/functions/x/forget", headers={**shown_by("operate"), "accept": "text/html"})
    assert page.status_code == 403
    assert "this needs the role admin, and operateer has the role operate" in page.text


def test_who_acts_is_told_by_the_name_of_their_token(http: TestClient) -> None:
    paused = http.post("/v1/event-names/a%2Fb/pause", headers=shown_by("operate"))
    assert paused.json()["data"]["paused"]["by"] == "operateer, the API"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("reader:0123456789abcdef", "what stands before the colon of the 1. token is no role"),
        (":0123456789abcdef", "is no role"),
        ("read:short", "the 1. token must have at least 16"),
        ("read@:0123456789abcdef", "the name of the 1. token"),
        ("read@a b:0123456789abcdef", "the name of the 1. token"),
        ("read:a:0123456789abcdef", "more than one colon"),
        ("READ:0123456789abcdef", "is no role"),
        ("read:0123456789abcdéf", "ASCII"),
    ],
)
def test_a_token_that_is_not_written_right_is_refused_and_not_shown(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as refused:
        Settings(api_tokens=(text,))
    assert "0123456789" not in str(refused.value)


def test_a_token_that_is_there_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="a token twice"):
        Settings(api_tokens=("read:0123456789abcdef", "0123456789abcdef"))


def test_no_secret_is_in_what_is_shown_of_tokens(keyed: Settings) -> None:
    shown = repr(keyed) + repr(keyed.tokens) + str(keyed.shown())
    for secret in SECRETS.values():
        assert secret not in shown
    assert [(one.role, one.name) for one in keyed.tokens] == [
        ("read", "reader"),
        ("operate", "operateer"),
        ("admin", "adminer"),
    ]
    assert Settings(api_tokens=("0123456789abcdef",)).tokens[0].role == "admin"


ACTS = re.compile(r'<form[^>]*method="post"[^>]*action="([^"]*)"')


async def test_a_page_offers_nobody_what_their_role_does_not_allow(keyed: Settings, lab: Lab) -> None:
    @lab.app.function("f", on=["a", Cron("0 3 * * *")], concurrency=2, retries=0)
    async def f(ctx: Context, step: Step) -> None:
        if ctx.event.data.get("fails"):
            raise ValueError("no")
        await step.wait_for_signal("ok", "approve", timeout="1d")

    await lab.work()
    await lab.send("a")
    run = await lab.status(await lab.first(), "waiting")
    await lab.send("a", {"fails": True})
    [failed] = [one.id for one in await lab.some(2) if one.id != run.id]
    await lab.status(failed, "failed")
    site = create_app(configured=keyed)
    pages = ["/", "/runs?status=failed", f"/runs/{run.id}", f"/runs/{failed}", "/events", "/event-names/a", f"/functions/{f.slug}",
             "/limits", "/schedules", "/workers", "/errors", "/system", "/alerts", "/operations/new?kind=rerun&status=failed"]  # fmt: skip
    offered: dict[str, set[str]] = {}
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=site), base_url="http://localhost") as http:
        for role in SECRETS:
            offered[role] = set()
            for path in pages:
                page = await http.get(path, headers={**shown_by(role), "accept": "text/html"})
                assert page.status_code == 200, (path, page.text[-300:])
                offered[role] |= set(ACTS.findall(page.text))
                assert role != "read" or "operations/new?" not in page.text, path
    await site.close()
    assert offered["read"] == set()
    assert len(offered["operate"]) >= 14, offered["operate"]
    assert offered["admin"] - offered["operate"] == {f"/functions/{f.slug}/forget"}
