"""Logging in: who may, for how long, and what is told of it."""

import asyncio
import json
import re
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import httpx2
import msgspec
import pytest
from argon2 import PasswordHasher
from itsdangerous import URLSafeTimedSerializer
from starlette.applications import Starlette
from starlette.testclient import TestClient

from stepstream import create_app, mount, serve
from stepstream.bus.errors import ConfigError
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.web.live import stream
from stepstream.web.trust import attempts
from stepstream.web.trust.sessions import COOKIE, LASTS_S
from tests.patience import PATIENT_S
from tests.support import acl_rule, eventually, free_port, logged_in
from tests.system.test_commands import bus
from tests.system.test_keys import shop
from tests.system.test_live import serving

if TYPE_CHECKING:
    import redis

KEY, PASSWORD = "k" * 32, "correct horse battery"
TOKEN = "t" * 32
HTML = {"accept": "text/html"}


@pytest.fixture(scope="module")
def hashed() -> str:
    """Made with as little work as argon2 takes: a hash says how it was made, and so it is looked at, 60 ms quicker."""
    return PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)


@pytest.fixture
def keyed(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, session_key=KEY)


@pytest.fixture
def people(store: "redis.Redis", hashed: str) -> None:
    for name, role in {"ada": "admin", "ola": "operate", "rea": "read"}.items():
        user = {"role": role, "password": hashed, "since": 1, "sessions": f"of-{name}"}
        store.hset(keys.users(), name, json.dumps(user))


@pytest.fixture
def browser(keyed: Settings, people: None) -> Generator[Callable[..., TestClient]]:
    """Make browsers: each has cookies of its own."""
    made: list[TestClient] = []

    def another(address: str = "10.1.2.3", configured: Settings = keyed, **more: Any) -> TestClient:
        site = create_app(configured=configured, hosts=["bus.example"])
        client = TestClient(
            site, base_url="https://localhost", client=(address, 1), headers=HTML, follow_redirects=False, **more
        )
        made.append(client.__enter__())
        return client

    yield another
    for client in made:
        client.__exit__(None, None, None)


def field(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found is not None, name
    return found[1]


def log_in(client: TestClient, name: str, password: str = PASSWORD, after: str = "") -> httpx2.Response:
    page = client.get("/login", params={"next": after} if after else None).text
    sent = {"token": field(page, "token"), "next": field(page, "next"), "name": name, "password": password}
    return client.post("/login", data=sent)


def test_a_log_in_without_the_token_of_its_page_is_refused(browser: Callable[..., TestClient]) -> None:
    client = browser()
    client.get("/login")
    for token in "", "x" * 32:
        sent = {"token": token, "next": "/", "name": "ada", "password": PASSWORD}
        refused = client.post("/login", data=sent)
        assert refused.status_code == 403
        assert COOKIE not in client.cookies


def test_who_is_not_logged_in_is_sent_to_the_log_in_and_back_to_what_they_asked_for(
    browser: Callable[..., TestClient],
) -> None:
    client = browser()
    sent = client.get("/runs?status=failed")
    assert (sent.status_code, sent.headers["location"]) == (303, "/login?next=%2Fruns%3Fstatus%3Dfailed")
    part = client.get("/runs", headers={"hx-request": "true"})
    assert (part.status_code, part.headers["hx-redirect"]) == (401, "/login?next=%2Fruns")
    api = client.get("/v1/runs", headers={"accept": "*/*"})
    assert (api.status_code, api.headers["www-authenticate"]) == (401, "Bearer")
    done = log_in(client, "ada", after="/runs?status=failed")
    assert (done.status_code, done.headers["location"]) == (303, "/runs?status=failed")
    page = client.get("/runs").text
    assert "ada" in page
    assert "Log out" in page
    assert client.get("/v1/runs", headers={"accept": "*/*"}).status_code == 200


def test_a_session_is_in_a_cookie_that_no_script_and_no_other_site_gets(browser: Callable[..., TestClient]) -> None:
    given = log_in(browser(), "ada").headers["set-cookie"]
    for part in (f"{COOKIE}=", "HttpOnly", "SameSite=lax", "Secure", f"Max-Age={LASTS_S}", "Path=/"):
        assert part in given, part
    assert PASSWORD not in given


@pytest.mark.parametrize("after", ["//evil.example", "https://evil.example", "/\\evil.example", "evil", "/a\nb"])
def test_a_log_in_leads_nowhere_but_to_this_site(browser: Callable[..., TestClient], after: str) -> None:
    assert log_in(browser(), "ada", after=after).headers["location"] == "/"


def test_a_role_counts_from_the_next_request_on(
    browser: Callable[..., TestClient], store: "redis.Redis", url: str
) -> None:
    client = browser()
    log_in(client, "rea")
    where = "/v1/event-names/a/pause"
    refused = client.post(where)
    assert (refused.status_code, refused.json()["error"]) == (
        403,
        "this needs the role operate, and rea has the role read",
    )
    bus("users", "role", "rea", "operate", url=url)
    assert client.post(where).status_code == 200
    told = [fields for _, fields in store.xrange(keys.audit())]
    assert [(one["who"], one["what"], one["outcome"]) for one in told if one["way"] != "a command"] == [
        ("rea", "log_in", "done"),
        ("rea", "pause_event", "this needs the role operate, and rea has the role read"),
        ("rea", "pause_event", "done"),
    ]


@pytest.mark.parametrize("change", ["removed", "password", "by hand", "key", "altered", "another's", "too old"])
def test_a_session_is_over_when_its_user_is_gone_or_it_is_not_ours(
    browser: Callable[..., TestClient], store: "redis.Redis", keyed: Settings, hashed: str, change: str
) -> None:
    client = browser()
    log_in(client, "ada")
    assert client.get("/runs").status_code == 200
    if change == "removed":
        store.hdel(keys.users(), "ada")
    elif change == "password":
        store.hset(
            keys.users(), "ada", json.dumps({"role": "admin", "password": hashed, "since": 1, "sessions": "new"})
        )
    elif change == "by hand":
        store.hset(keys.users(), "ada", "{}")
    else:
        kept = client.cookies[COOKIE]
        if change == "key":
            client = browser(configured=msgspec.structs.replace(keyed, session_key="o" * 32))
        signers = {"another's": ("x" * 32, "stepstream session"), "altered": (KEY, "another salt")}
        if change in signers:
            key, salt = signers[change]
            kept = str(URLSafeTimedSerializer(key, salt=salt).dumps(["ada", "of-ada", "x"]))
        if change == "too old":
            signer = URLSafeTimedSerializer(KEY, salt="stepstream session")
            timestamped = signer.make_signer(b"stepstream session")
            timestamped.get_timestamp = lambda: 1_000_000_000  # type: ignore[method-assign]
            kept = timestamped.sign(signer.dump_payload(["ada", "of-ada", "x"])).decode()
        client.cookies.clear()
        client.cookies.set(COOKIE, kept)
    answer = client.get("/runs")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=%2Fruns")


async def logs_in(client: httpx2.AsyncClient) -> None:
    page = (await client.get("/login", headers=HTML)).text
    sent = {"token": field(page, "token"), "next": "", "name": "ada", "password": PASSWORD}
    assert (await client.post("/login", data=sent)).status_code == 303


@pytest.mark.parametrize("path", ["/live?of=all", "/v1/live", "/v1/live/a-channel"])
@pytest.mark.parametrize("change", [{"sessions": "others"}, {"role": "read"}, None])
async def test_an_open_stream_ends_when_its_session_is_over_or_its_role_is_another(
    keyed: Settings,
    people: None,
    store: "redis.Redis",
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    change: dict[str, str] | None,
) -> None:
    """A stream is one request that goes on for days: who was removed kept seeing what runs said."""
    monkeypatch.setattr(stream, "ASKED_AGAIN_S", 0.01)
    async with (
        serving(keyed) as site,
        httpx2.AsyncClient(base_url=site.url, timeout=PATIENT_S) as client,
    ):
        await logs_in(client)
        async with client.stream("GET", path) as answer:
            assert answer.status_code == 200
            lines = answer.aiter_lines()
            assert (await anext(lines)).startswith("retry")
            if change is None:
                store.hdel(keys.users(), "ada")
            else:
                ada = json.loads(store.hget(keys.users(), "ada") or b"")
                store.hset(keys.users(), "ada", json.dumps(ada | change))
            async for _ in lines:
                pass
        assert (await client.get("/v1/runs")).status_code == (200 if change and "role" in change else 401)


async def test_an_open_stream_goes_on_while_nobody_can_tell_whose_it_is(
    keyed: Settings, people: None, flushing: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "ASKED_AGAIN_S", 0.01)
    rule = ["looker" if word == "stepstream" else word for word in acl_rule("stepstream")]
    flushing.execute_command(*rule)
    configured = msgspec.structs.replace(keyed, redis_url=logged_in(keyed.redis_url, "looker"))

    async def refused() -> bool:
        log = flushing.execute_command("ACL", "LOG")
        return "hget" in str(log)

    try:
        async with serving(configured) as site, httpx2.AsyncClient(base_url=site.url, timeout=PATIENT_S) as client:
            await logs_in(client)
            async with client.stream("GET", "/live?of=all") as answer:
                lines = answer.aiter_lines()
                await anext(lines)
                flushing.execute_command("ACL", "LOG", "RESET")
                flushing.execute_command("ACL", "SETUSER", "looker", "-hget")
                await eventually(refused, "it is asked who that is")
                assert await anext(lines) == ""
                assert (await anext(lines)).startswith("data: ")
    finally:
        flushing.execute_command("ACL", "DELUSER", "looker")


def test_a_page_that_a_role_may_not_see_says_whose_it_is_and_lets_them_log_out(
    browser: Callable[..., TestClient],
) -> None:
    client = browser()
    log_in(client, "rea")
    refused = client.get("/audit")
    assert refused.status_code == 403
    assert "this needs the role admin, and rea has the role read" in refused.text
    assert ">rea</span>" in refused.text
    assert client.post("/logout", data={"token": field(refused.text, "token")}).status_code == 303
    assert client.get("/runs").status_code == 303


def test_a_page_links_to_no_page_that_a_role_may_not_see(browser: Callable[..., TestClient]) -> None:
    shown = {}
    for name in ("ada", "ola"):
        client = browser()
        log_in(client, name)
        shown[name] = client.get("/system").text
    assert 'href="/audit"' in shown["ada"]
    assert 'href="/audit"' not in shown["ola"]


@pytest.mark.parametrize("path", ["/ready", "/login", "/runs", "/v1/runs", "/metrics"])
def test_strangers_do_not_hear_where_redis_is_when_it_is_away(keyed: Settings, path: str) -> None:
    port = free_port()
    away = msgspec.structs.replace(
        keyed, redis_url=f"redis://keeper:pw@localhost:{port}/0", api_tokens=(f"read@r:{TOKEN}",), timeout_ms=100
    )
    with TestClient(create_app(configured=away), base_url="https://localhost") as client:
        signer = URLSafeTimedSerializer(KEY, salt="stepstream session")
        for headers in ({}, HTML, {"cookie": f"{COOKIE}={signer.dumps(['ada', 'of-ada', 'x'])}"}):
            told = client.get(path, headers=headers, follow_redirects=False)
            assert "keeper" not in told.text + str(told.headers)
            assert str(port) not in told.text + str(told.headers)
        if path.startswith("/v1"):
            told = client.get(path, headers={"authorization": f"Bearer {TOKEN}"})
            assert told.status_code == 503
            assert f"keeper:***@localhost:{port}" in told.text


def test_who_logs_out_is_out(browser: Callable[..., TestClient]) -> None:
    client = browser()
    log_in(client, "ada")
    form = field(client.get("/runs").text, "token")
    assert client.post("/logout", data={"token": "x" * 32}).status_code == 403
    out = client.post("/logout", data={"token": form})
    assert (out.status_code, out.headers["location"]) == (303, "/login")
    assert client.get("/runs").status_code == 303


def test_a_form_of_another_session_is_refused(browser: Callable[..., TestClient], store: "redis.Redis") -> None:
    mine, theirs = browser(), browser()
    log_in(mine, "ola")
    log_in(theirs, "ola")
    token = field(mine.get("/event-names/a").text, "token")
    assert theirs.post("/events/pause", data={"token": token, "name": "a"}).status_code == 403
    theirs.cookies.set("stepstream_form", token)  # nor does a cookie that somebody has set help
    assert theirs.post("/events/pause", data={"token": token, "name": "a"}).status_code == 403
    assert not store.exists(keys.controls())
    assert mine.post("/events/pause", data={"token": token, "name": "a"}).status_code == 303


def test_the_names_that_there_are_and_passwords_show_nowhere(
    browser: Callable[..., TestClient], store: "redis.Redis", capfd: pytest.CaptureFixture[str]
) -> None:
    client = browser()
    wrong, nobody = log_in(client, "ada", "not the password"), log_in(client, "hunter2hunter2", "not the password")
    assert wrong.status_code == nobody.status_code == 401
    problem = re.compile(r'id="problem">([^<]*)<')
    assert problem.findall(wrong.text) == problem.findall(nobody.text) == ["Wrong name or password."]
    assert "not the password" not in re.sub(r"refused: not the password", "", str(store.xrange(keys.audit())))
    assert [one["who"] for _, one in store.xrange(keys.audit())] == ["ada", ""]  # a name may be a password, too
    told = capfd.readouterr()
    assert "hunter2" not in told.out + told.err
    assert not store.keys("*hunter2*")


def test_too_many_vain_log_ins_of_a_name_are_refused_for_a_while_but_not_from_elsewhere(
    browser: Callable[..., TestClient], store: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    client = browser()

    async def wrong(*_: object) -> bool:
        return False

    with monkeypatch.context() as quick:  # a hash takes a while, on purpose
        quick.setattr("stepstream.web.trust.login.is_right", wrong)
        for _ in range(attempts.MOST_OF_PAIR):
            assert log_in(client, "ada", "wrong").status_code == 401
    refused = log_in(client, "ada")
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= attempts.WITHIN_MS // 1_000
    assert re.search(r"try again in (15 min|14 min \d+ s)\.", refused.text)
    assert log_in(client, "ada").status_code == 429
    shut = [one for _, one in store.xrange(keys.audit()) if one["outcome"].startswith("refused: too many")]
    assert [(one["who"], one["source"]) for one in shut] == [("ada", "10.1.2.3")], "it is told once"
    assert log_in(browser("10.9.9.9"), "ada").status_code == 303
    for key in store.keys("*:login:*"):
        assert 0 < store.pttl(key) <= attempts.WITHIN_MS
        store.delete(key)
    assert log_in(client, "ada").status_code == 303


async def test_many_log_ins_at_once_are_no_way_around_their_bound(keyed: Settings, people: None) -> None:
    site = create_app(configured=keyed)
    transport = httpx2.ASGITransport(app=site, client=("10.1.2.3", 1))
    async with httpx2.AsyncClient(transport=transport, base_url="https://localhost", headers=HTML) as http:
        page = (await http.get("/login")).text
        sent = {"token": field(page, "token"), "next": "", "name": "ada", "password": "not the password"}
        answers = await asyncio.gather(*(http.post("/login", data=sent) for _ in range(3 * attempts.MOST_OF_PAIR)))
    await site.close()
    told = sorted(answer.status_code for answer in answers)
    assert told == [401] * attempts.MOST_OF_PAIR + [429] * 2 * attempts.MOST_OF_PAIR


def test_a_log_in_that_succeeds_is_not_counted_among_those_that_fail(
    browser: Callable[..., TestClient], store: "redis.Redis"
) -> None:
    assert log_in(browser(), "ada", "not the password").status_code == 401
    assert log_in(browser(), "ada").status_code == 303
    left = {key: store.get(key) for key in store.keys("*:login:*")}
    assert sorted(left.values()) == ["1", "1"], left  # of the address, and of the name


def test_the_log_in_says_when_there_is_no_user_yet(keyed: Settings) -> None:
    with TestClient(create_app(configured=keyed), base_url="http://localhost", headers=HTML) as client:
        assert "bus users add NAME --role admin" in client.get("/login").text


def test_where_nobody_logs_in_there_is_no_log_in(settings: Settings) -> None:
    with TestClient(create_app(configured=settings), base_url="http://localhost", headers=HTML) as client:
        assert client.get("/login").status_code == 404
        assert "Log out" not in client.get("/runs").text


def test_a_token_opens_the_site_beside_the_log_in(keyed: Settings) -> None:
    both = msgspec.structs.replace(keyed, api_tokens=("read@ci:0123456789abcdef",))
    with TestClient(create_app(configured=both), base_url="http://localhost") as client:
        assert client.get("/v1/runs", headers={"authorization": "Bearer 0123456789abcdef"}).status_code == 200
        assert client.get("/v1/runs", headers={"authorization": "Bearer 0123456789abcdeX"}).status_code == 401


def test_below_a_prefix_one_logs_in_too(keyed: Settings, people: None) -> None:
    host = Starlette()
    mount(host, "/bus", serve(shop, configured=keyed))
    with TestClient(host, base_url="http://localhost", headers=HTML, follow_redirects=False) as client:
        sent = client.get("/bus/runs")
        assert sent.headers["location"] == "/bus/login?next=%2Fruns"
        page = client.get(sent.headers["location"]).text
        data = {"token": field(page, "token"), "next": field(page, "next"), "name": "ada", "password": PASSWORD}
        done = client.post("/bus/login", data=data)
        assert done.headers["location"] == "/bus/runs"
        assert "Path=/bus" in done.headers["set-cookie"]
        assert client.get("/bus/runs").status_code == 200


def test_users_are_added_changed_and_removed_by_a_command(url: str, store: "redis.Redis") -> None:
    def users(*words: str, given: str = "", code: int = 0) -> str:
        return bus("users", *words, url=url, code=code, said=given)

    assert "bus users add NAME --role admin" in users()
    told = users("add", "eve", "--role", "operate", "--password-stdin", given="a long password\n")
    assert told.strip() == "eve may log in, with the role operate"
    assert "there already" in users(
        "add", "eve", "--role", "read", "--password-stdin", given="a long password\n", code=1
    )
    kept = json.loads(store.hget(keys.users(), "eve"))  # type: ignore[arg-type]
    assert kept["password"].startswith("$argon2id$")
    assert "a long password" not in str(kept)
    shown = json.loads(users("--json"))
    assert [(one["name"], one["role"], sorted(one)) for one in shown] == [("eve", "operate", ["name", "role", "since"])]
    assert "12 to 256" in users("password", "eve", "--password-stdin", given="short\n", code=1)
    users("remove", "eve")
    assert not store.exists(keys.users())
    assert "there is no user" in users("remove", "eve", code=1)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("add", "eve"), "which role: bus users add eve --role read|operate|admin"),
        (("add", "e v e", "--role", "read", "--password-stdin"), "is no name of a user"),
        (("role", "eve", "boss"), "is no role: bus users role eve read|operate|admin"),
        (("add",), "bus users add NAME --role operate"),
        (("add", "eve", "--role", "read"), "--password-stdin"),
    ],
)
def test_a_command_about_users_that_makes_no_sense_says_what_does(url: str, words: tuple[str, ...], told: str) -> None:
    assert told in bus("users", *words, url=url, code=1)


@pytest.mark.parametrize("key", ["short", "é" * 32])
def test_a_session_key_that_could_be_guessed_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ConfigError, match="BUS_SESSION_KEY must have at least 32") as refused:
        Settings(session_key=key)
    assert key not in str(refused.value)
    assert KEY not in repr(Settings(session_key=KEY))
