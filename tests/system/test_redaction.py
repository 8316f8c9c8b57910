"""Redaction: who is no admin sees no secret of a run anywhere on the site; conditions and forms do not tell it either."""

import json
import re
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import msgspec
import pytest
import structlog
from websockets.asyncio.client import connect

from stepstream import Bus, Context, EventData, NonRetriable, On, Step, create_app
from stepstream.bus.event import NewEvent
from stepstream.bus.observe.log import configure
from stepstream.bus.settings import Settings
from stepstream.bus.system_events import INVOKED
from stepstream.bus.trust.redaction import MASK
from stepstream.bus.values import codec
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.live.messages import publish
from stepstream.checkpoint.run.record import Run
from stepstream.checkpoint.types import declare_types, redacted_fields
from stepstream.web.routing import NeedsRoute
from tests.support import Lab, eventually, fields
from tests.system.test_keys import asking
from tests.system.test_live import serving
from tests.system.test_roles import SECRETS, shown_by

SECRET = "canary-7431"
HTML = {"accept": "text/html"}


@pytest.fixture
def keyed(settings: Settings) -> Settings:
    tokens = tuple(f"{role}@{role}er:{secret}" for role, secret in SECRETS.items())
    return msgspec.structs.replace(settings, api_tokens=tokens)


@pytest.fixture
async def http(keyed: Settings) -> AsyncGenerator[httpx2.AsyncClient]:
    site = create_app(configured=keyed)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=site), base_url="http://localhost") as client:
        yield client
    await site.close()


@pytest.fixture
async def runs(lab: Lab) -> dict[str, Run]:
    """A run that completed, one that waits, one that failed: each holds the secret wherever a run holds what is a user's."""

    @lab.app.function("pays", on="user.created", retries=0)
    async def pays(ctx: Context, step: Step) -> dict[str, object]:
        def login() -> dict[str, object]:
            return {
                "user": "ada",
                "headers": [["Authorization", f"Bearer {SECRET}"]],
                "session": {"accessToken": SECRET},
            }

        ctx.progress(50, api_key=SECRET)
        ctx.logger.info("logs in", password=SECRET)
        ctx.logger.info("says token=%s", SECRET)
        print(f"Cookie: a={SECRET}; b={SECRET}")
        await ctx.publish("said", {"token": SECRET})
        await step.run("log-in", login)
        await step.send_event("tell", NewEvent("user.told", {"token": SECRET}))
        if ctx.event.data.get("waits"):
            await step.wait_for_event("paid", "card.paid", if_=f'async.data.token == "{SECRET}"', timeout="1d")
        if ctx.event.data.get("fails"):
            raise NonRetriable(f'refused {{"password": "{SECRET}"}}')
        return {"client_secret": SECRET, "n": 1}

    @lab.app.function("other", on=On("user.created", if_='event.data.password == "another"'))
    async def other(ctx: Context, step: Step) -> None:
        """It does not begin."""

    await lab.work()
    found: dict[str, Run] = {}
    for name, status in (("ends", "completed"), ("waits", "waiting"), ("fails", "failed")):
        [stored] = await lab.app.publish(
            [NewEvent("user.created", {"password": SECRET, "n": 1, name: True}, f"of-{name}")]
        )
        del stored

        async def there(name: str = name, status: str = status) -> Run | None:
            for run in await lab.runs():
                if f'"{name}":true'.encode() in bytes(run.event or b"") and run.status == status:
                    return run
            return None

        run = await eventually(there, f"the run that {name} is {status}")
        assert run is not None
        found[name] = run
    await lab.app.publish([NewEvent("user.later", {"password": SECRET}, "of-later", delay="1d")])
    return found


def paths_of(route: NeedsRoute, runs: dict[str, Run]) -> list[str]:
    """Return paths of a route, with each name that may stand in it, so that it finds something."""
    ids = [run.id for run in runs.values()]
    named = {"run": ids, "event": ["of-ends", "of-waits"], "function": ["test-pays"], "name": ["user.created", "user.told"],
             "channel": ids}  # fmt: skip
    kind = (
        "function" if "/functions/" in route.path or route.path.startswith("/invoke")
        else "name" if "/event-names/" in route.path
        else "event" if "/events/" in route.path
        else "channel" if "{channel" in route.path
        else "run"
    )  # fmt: skip
    if "{" not in route.path:
        return [route.path]
    return [re.sub(r"[{][^}]+[}]", one, route.path) for one in named[kind]]


MORE = {
    "/v1/runs": ["?status=failed&where=true"],
    "/v1/runs/{id}/steps": ["?fields=id,data,what,error"],
    "/v1/events": ["?fields=id,data"],
    "/v1/delayed": ["?fields=id,data"],
    "/runs": ["?status=failed"],
    "/search": ["?q=of-ends"],
    "/v1/find": ["?q=of-ends"],
    "/operations/new": ["?kind=rerun&status=failed"],
    "/v1/live": ["?after=none"],
    "/live": ["?of=none"],
}
"""What some routes are asked with; one of them so that a stream is refused and does not go on for ever."""


async def test_who_is_no_admin_finds_no_secret_of_a_run_by_any_route(keyed: Settings, runs: dict[str, Run]) -> None:
    site = create_app(configured=keyed)
    seen_by_admin: set[str] = set()
    async with asking(site) as asked:
        for route in (one for one in site.routes if isinstance(one, NeedsRoute)):
            if route.needs != "read" or "GET" not in (route.methods or ()) or "{channel" in route.path:
                continue
            for path in paths_of(route, runs):
                for query in ["", *MORE.get(route.path, [])] if "live" not in route.path else MORE[route.path]:
                    for headers in ({}, HTML):
                        for role in ("read", "operate"):
                            _, _, body = await asked("GET", path + query, {**shown_by(role), **headers})
                            assert SECRET.encode() not in body, (
                                role,
                                path + query,
                                body[: body.find(SECRET.encode()) + 40][-300:],
                            )
                        if SECRET.encode() in (await asked("GET", path + query, {**shown_by("admin"), **headers}))[2]:
                            seen_by_admin.add(route.path)
    assert seen_by_admin >= {
        "/v1/runs", "/v1/runs/{id}", "/v1/runs/{id}/steps", "/v1/runs/{id}/log", "/v1/events", "/v1/events/{id:path}",
        "/v1/events/{id:path}/story", "/v1/events/{id:path}/runs", "/v1/delayed", "/v1/errors", "/v1/overview", "/runs",
        "/runs/{id}", "/events/{id:path}", "/event-names/{event:path}", "/errors", "/",
    }  # fmt: skip


async def test_the_log_of_a_process_tells_no_secret(keyed: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    before = structlog.get_config()
    try:
        configure(msgspec.structs.replace(keyed, log_format="json"))
        try:
            raise ValueError(f"password={SECRET}")
        except ValueError:
            structlog.get_logger().exception("token: " + SECRET, cookie=SECRET, data={"api_key": SECRET}, n=1)
    finally:
        structlog.configure(**before)
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert '"n": 1' in told
    assert SECRET not in told


async def test_a_condition_does_not_tell_what_is_hidden(http: httpx2.AsyncClient, runs: dict[str, Run]) -> None:
    query = {"where": f'event.data.password == "{SECRET}"'}
    counted = {"kind": "rerun", "query": {"status": ["failed"], **query}}
    for role, found in (("admin", 3), ("operate", 0), ("read", 0)):
        assert len((await http.get("/v1/runs", params=query, headers=shown_by(role))).json()["data"]) == found, role
        page = (await http.get("/runs", params=query, headers={**shown_by(role), **HTML})).text
        assert ("No run matches" in page) == (found == 0), role
        if role != "read":
            told = (await http.post("/v1/operations/count", json=counted, headers=shown_by(role))).json()
            assert told["data"]["count"] == (1 if found else 0), role
    assert (
        len(
            (await http.get("/v1/runs", params={"where": "event.data.n == 1"}, headers=shown_by("read"))).json()["data"]
        )
        == 3
    )


async def test_an_operation_acts_on_what_the_one_who_began_it_may_find(
    http: httpx2.AsyncClient, runs: dict[str, Run]
) -> None:
    query = {"status": ["waiting"], "where": f'event.data.password == "{SECRET}"'}
    for role, done in (("operate", 0), ("admin", 1)):
        made = (
            await http.post("/v1/operations", json={"kind": "cancel", "query": query}, headers=shown_by(role))
        ).json()["data"]

        async def ended(id: str = made["id"]) -> dict[str, object] | None:
            told = (await http.get(f"/v1/operations/{id}", headers=shown_by("admin"))).json()["data"]
            return told if told["ended"] else None

        told = await eventually(ended, "the operation ends")
        assert told is not None
        assert told["done"] == done, (role, told)


async def test_an_input_that_is_edited_keeps_what_its_editor_did_not_see(
    http: httpx2.AsyncClient, lab: Lab, runs: dict[str, Run]
) -> None:
    run = runs["ends"].id
    page = (await http.get(f"/runs/{run}", headers={**shown_by("operate"), **HTML})).text
    assert MASK in page
    given = {**fields(page), "data": f'{{"password": "{MASK}", "n": 2}}'}
    answer = await http.post(
        f"/runs/{run}/rerun", data=given, headers={**shown_by("operate"), **HTML, "origin": "http://localhost"}
    )
    assert answer.status_code == 303, answer.text
    made = answer.headers["location"].rpartition("/")[2]
    event = msgspec.json.decode((await lab.status(made, "completed")).event or b"null")
    assert event["data"] == {"password": SECRET, "n": 2}
    moved = {**given, "data": f'{{"note": "{MASK}"}}', "once": "another"}
    answer = await http.post(
        f"/runs/{run}/rerun", data=moved, headers={**shown_by("operate"), **HTML, "origin": "http://localhost"}
    )
    assert answer.status_code == 400, answer.text
    assert "data.note: is [redacted], which stands for a value that your role does not see" in answer.text


class Signed(EventData, name="contract.signed", redact=["email", "card.number"]):
    email: str
    card: dict[str, str]
    n: int = 0


async def test_a_site_without_the_code_hides_the_fields_that_an_event_type_names(
    keyed: Settings, http: httpx2.AsyncClient, lab: Lab
) -> None:
    @lab.app.function("signs", on=Signed, retries=0)
    async def signs(ctx: Context[Signed], step: Step) -> dict[str, str]:
        await step.run("greets", lambda: {"email": SECRET, "subject": "hello"})
        return {"email": SECRET, "year": "2026"}

    @lab.app.function("other", on=On(Signed, if_='event.data.email == "another"'))
    async def other(ctx: Context[Signed], step: Step) -> None:
        """It does not begin."""

    await lab.work()
    await lab.app.publish([NewEvent(Signed(SECRET, {"number": SECRET, "year": "1"}), id="of-signed")])
    run = await lab.one()
    await lab.idle()
    paths = ("/v1/events/of-signed/story", f"/v1/runs/{run.id}", f"/v1/runs/{run.id}/steps?fields=id,data", f"/runs/{run.id}", "/v1/events/of-signed",
             "/v1/events?fields=data", "/events/of-signed", "/event-names/contract.signed", "/v1/events/of-signed/runs")  # fmt: skip
    for path in paths:
        assert SECRET in (await http.get(path, headers=shown_by("admin"))).text, path
        told = (await http.get(path, headers=shown_by("operate"))).text
        assert SECRET not in told, path
        assert MASK in told, path
    asked = '{ run(runID: "%s") { output } runTrigger(runID: "%s") { payloads } }' % (run.id, run.id)  # noqa: UP031 - braces
    for role, is_whole in (("admin", True), ("operate", False)):
        told = (await http.post("/v0/gql", json={"query": asked}, headers=shown_by(role))).text
        assert told.count(SECRET) == (3 if is_whole else 0), told
        assert told.count(MASK) == (0 if is_whole else 3), told
    called = (
        await http.post(
            f"/invoke/{signs.slug}", json={"data": {"email": SECRET, "card": {}}}, headers=shown_by("admin")
        )
    ).json()
    await lab.status(called["id"], "completed")
    for path in (f"/v1/runs/{called['id']}", f"/runs/{called['id']}", f"/v1/events/{called['id']}"):
        assert SECRET in (await http.get(path, headers=shown_by("admin"))).text, path
        assert SECRET not in (await http.get(path, headers=shown_by("read"))).text, path
    query = {"where": f'event.data.email == "{SECRET}" || output.email == "{SECRET}"'}
    for role, found in (("admin", 2), ("read", 0)):
        assert len((await http.get("/v1/runs", params=query, headers=shown_by(role))).json()["data"]) == found
    edited = {"data": f'{{"email": "{MASK}", "card": {{"number": "{MASK}", "year": "2"}}, "n": 7}}'}
    page = (await http.get(f"/runs/{run.id}", headers={**shown_by("operate"), **HTML})).text
    answer = await http.post(
        f"/runs/{run.id}/rerun",
        data={**fields(page), **edited},
        headers={**shown_by("operate"), **HTML, "origin": "http://localhost"},
    )
    made = await lab.status(answer.headers["location"].rpartition("/")[2], "completed")
    data = msgspec.json.decode(made.event or b"null")["data"]
    assert data == {"email": SECRET, "card": {"number": SECRET, "year": "2"}, "n": 7}


async def test_what_a_bus_hides_no_more_is_shown_and_another_bus_still_hides_it(lab: Lab) -> None:
    def bus(name: str, kind: Any) -> Bus:
        made = Bus(name)

        @made.function("f", on=kind)
        async def f(ctx: Context, step: Step) -> None:
            """It hides what its type says."""

        return made

    def typed(*redact: str) -> Any:
        class Moved(EventData, name="user.moved", redact=redact):
            email: str
            street: str

        return Moved

    for name, kind, hidden in (
        ("a", typed("email"), ("email",)),
        ("b", typed("street"), ("email", "street")),
        ("a", typed(), ("street",)),
        ("b", typed("email"), ("email",)),
    ):
        await declare_types(lab.wire, [*bus(name, kind).functions.values()])
        found = await redacted_fields(lab.wire)
        assert found["user.moved"] == found[INVOKED] == hidden


async def test_a_bulk_cancellation_finds_no_more_than_the_one_who_asks_sees(
    http: httpx2.AsyncClient, lab: Lab, runs: dict[str, Run]
) -> None:
    asked = {"app_id": "test", "function_id": "pays", "started_before": runs["fails"].queued + 1}
    for role, cancelled in (("operate", 0), ("admin", 1)):
        given = {**asked, "if": f'event.data.password == "{SECRET}"'}
        made = (await http.post("/v1/cancellations", json=given, headers=shown_by(role))).json()["data"]

        async def done(id: str = made["id"]) -> dict[str, object] | None:
            told = (await http.get(f"/v1/cancellations/{id}", headers=shown_by("admin"))).json()["data"]
            return told if told["done_at"] else None

        told = await eventually(done, "the cancellation is done")
        assert told is not None
        assert told["cancelled"] == cancelled, (role, told)
    await lab.status(runs["waits"].id, "cancelled")


async def test_a_stream_of_live_messages_tells_no_secret_to_who_is_no_admin(
    keyed: Settings, wire: Wire, lab: Lab
) -> None:
    @lab.app.function("signs", on=Signed)
    async def signs(ctx: Context[Signed], step: Step) -> None:
        """Its type is declared."""

    await declare_types(wire, [*lab.app.functions.values()])
    await publish(wire, "said", "topic", codec.encode({"email": SECRET, "token": SECRET, "n": 1}))
    async with serving(keyed) as site:
        for role, is_whole in (("admin", True), ("operate", False), ("read", False)):
            async with site.events("/v1/live/said?after=0", **shown_by(role)) as events:
                async for event in events:
                    if event.get("data", {}).get("topic") == "topic":
                        wanted = SECRET if is_whole else MASK
                        assert event["data"]["data"] == {"email": wanted, "token": wanted, "n": 1}, role
                        break


async def test_who_is_no_admin_gets_no_ticket_that_tells_more_than_they_see(
    keyed: Settings, wire: Wire, lab: Lab
) -> None:
    """A reader asked for a ticket, and listened by it to what their own role does not see."""

    @lab.app.function("signs", on=Signed)
    async def signs(ctx: Context[Signed], step: Step) -> None:
        """Its type is declared."""

    await declare_types(wire, [*lab.app.functions.values()])
    await publish(wire, "said", "topic", codec.encode({"email": SECRET, "token": SECRET, "n": 1}))
    async with serving(keyed) as site, httpx2.AsyncClient(base_url=site.url) as client:
        for role, is_whole in (("admin", True), ("operate", False), ("read", False)):
            asked = [{"channel": "said", "name": "topic"}]
            given = (await client.post("/v1/realtime/token", json=asked, headers=shown_by(role))).json()["jwt"]
            wanted = {"email": SECRET, "token": SECRET, "n": 1} if is_whole else {"email": MASK, "token": MASK, "n": 1}
            async with site.events(f"/v1/realtime/sse?after=0&token={given}") as events:
                async for event in events:
                    if event.get("data", {}).get("topic") == "topic":
                        assert event["data"]["data"] == wanted, role
                        break
            address = f"{site.url.replace('http', 'ws')}/v1/realtime/connect?token={given}"
            async with connect(address, origin=None) as socket:
                await publish(wire, "said", "topic", codec.encode({"email": SECRET, "token": SECRET, "n": 1}))
                assert json.loads(await socket.recv())["data"] == wanted, role
