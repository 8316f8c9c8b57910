"""What an attacker tries on the API and the pages, and where each is shown to do nothing; what no other test shows is here."""

import ast
import functools
import json
import re
from collections.abc import Generator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
from starlette.testclient import TestClient

from stepstream import create_app
from stepstream.bus.settings import Settings
from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.ids import run_id
from stepstream.bus.wire import keys
from tests.system.test_api_table import ROUTES, is_of_page, method_of, path_of, told_of

TESTS = Path(__file__).parent.parent
STRICT = "system/test_api_table.py::test_what_a_later_reader_could_not_handle_is_refused"
HERE = "system/test_attacks.py"
RAW = "system/test_raw_requests.py"
MARKUP = f"{HERE}::test_no_page_has_markup_or_links_of_what_it_shows"
SHOWN_BY: dict[str, tuple[str, ...]] = {
    "JSON of 100,000 levels, on every route that takes any": (STRICT,),
    "JSON of 900 levels, which parses and breaks a later reader": (STRICT,),
    "NaN, Infinity and -Infinity": (STRICT, "system/test_numbers.py"),
    "1e999": (STRICT,),
    "an integer of 5,000 digits, and one of 4,000": (STRICT,),
    "a key twice in one object": (STRICT,),
    "a script in a name, payload, error, step, run, worker or schedule": (
        MARKUP, "system/test_http.py::test_pages_show_runs_and_escape_everything",
        "system/test_event_pages.py::test_an_odd_name_is_shown_as_it_is_and_its_links_lead_to_it",
    ),
    "</script> within a script of the page: there is none": (MARKUP,),
    "a quote that ends an attribute": (MARKUP,),
    "a link to javascript:": (MARKUP,),
    "escapes that a terminal obeys": (
        "unit/test_terminal.py::test_a_terminal_does_not_obey_what_is_printed",
        "system/test_looking.py::test_errors_are_listed_resolved_and_muted_and_steer_no_terminal",
    ),
    "a page in a frame, or with scripts from elsewhere": (f"{HERE}::test_every_answer_says_what_a_browser_may_do_with_it",),
    "a rerun or a cancel by GET": ("system/test_api_table.py::test_nothing_acts_by_get_or_for_a_foreign_page",),
    "a form of another site": (
        "system/test_api_table.py::test_nothing_acts_by_get_or_for_a_foreign_page",
        "system/test_keys.py::test_a_form_of_a_foreign_page_is_refused_although_the_browser_sends_the_password",
        f"{HERE}::test_a_page_of_another_site_may_not_act_where_the_browser_names_no_origin",
        f"{HERE}::test_no_form_acts_without_the_token_of_its_page",
    ),
    "a site without keys that others reach": ("system/test_keys.py::test_where_others_reach_it_there_must_be_keys",),
    "payloads of a mebibyte, a hundred of them": (
        "system/test_http.py::test_a_huge_payload_is_cut_with_its_size",
        "unit/test_views.py::test_a_payload_is_indented_and_a_long_one_is_cut_with_its_size_told",
        "system/test_api_table.py::test_every_list_is_paged_and_leaves_payloads_out",
        f"{HERE}::test_a_list_of_runs_with_large_payloads_is_small",
    ),
    "a limit of 1e9 or -1, a cursor of anything": (
        "system/test_api_table.py::test_every_list_is_paged_and_leaves_payloads_out",
        f"{HERE}::test_pages_take_no_limit_and_no_cursor_of_anything",
    ),
    "a page that sends its reader to another site": (f"{HERE}::test_who_is_led_on_stays_on_the_site",),
    "a table for a spreadsheet with a formula in it: there is none": (
        f"{HERE}::test_every_answer_says_what_a_browser_may_do_with_it",
    ),
    "a reader who reruns": (
        f"{HERE}::test_who_may_only_read_may_not_act", "unit/test_routes.py::test_each_route_says_what_its_caller_needs",
        "system/test_keys.py::test_every_route_wants_a_key_and_one_that_opens_it",
    ),
    "a cookie that is read, sent along or planted; a password that is guessed": (
        f"{HERE}::test_the_only_cookie_opens_nothing_and_is_kept_from_scripts_and_other_sites",
        "system/test_keys.py::test_every_route_wants_a_key_and_one_that_opens_it",
        "unit/test_signing.py",
    ),
    "no key, a wrong one, one with blanks, a line's end or letters of other scripts, one of a mebibyte": (
        f"{RAW}::test_what_is_no_token_of_ours_opens_nothing_and_breaks_nothing",
        f"{RAW}::test_what_is_no_event_key_of_ours_stores_nothing",
        "system/test_keys.py::test_events_want_an_event_key_and_nothing_else_will_do",
    ),
    "a secret that is set and says nothing": ("unit/test_signing.py::test_keys_that_cannot_work_are_told_at_the_start",),
    "a key in a path that reaches a log": (
        "system/test_keys.py::test_no_key_is_in_an_answer_or_a_line_of_the_log",
        "system/test_door.py::test_the_log_of_an_error_does_not_tell_the_event_key",
    ),
    "two Authorization headers": (f"{RAW}::test_two_authorizations_are_refused_whichever_of_them_is_right",),
    "a request that may be read in two ways": (
        f"{RAW}::test_a_body_whose_end_or_kind_could_be_read_in_two_ways_is_refused_and_nothing_stored",
        f"{RAW}::test_a_request_for_what_is_no_path_or_by_no_method_is_refused_and_is_no_error_of_ours",
    ),
    "a name of the system's own, sent from outside": (
        "system/test_event_pages.py::test_a_reserved_name_is_refused_and_a_form_of_another_page_does_nothing",
        "system/test_http.py::test_a_bad_body_is_refused_with_the_reason_and_nothing_is_stored",
    ),
    "an id of 10 kB, a body without end, a body that is no JSON of ours": (
        "system/test_http.py::test_a_bad_body_is_refused_with_the_reason_and_nothing_is_stored",
        "system/test_http.py::test_a_body_without_end_is_cut_off_at_the_limit",
        "system/test_http.py::test_what_is_no_form_packed_bodies_and_foreign_pages_are_refused",
    ),
    "an id again, with another body: the first counts, and it is told": (
        "system/test_http.py::test_an_id_published_twice_is_stored_once_and_told",
    ),
    "a preflight of a foreign page": (f"{RAW}::test_a_preflight_of_a_foreign_page_is_given_no_leave",),
    "a foreign host name that means this machine": (
        "system/test_door.py::test_a_page_under_a_foreign_name_reads_nothing_and_starts_nothing",
        "system/test_door.py::test_what_a_proxy_says_the_host_was_counts_for_nothing_by_itself",
        "unit/test_monitoring_server.py",
    ),
    "an address or a key that publishes without end": (
        "system/test_keys.py::test_who_publishes_too_often_is_told_when_they_may_again_and_nothing_is_stored",
        "system/test_keys.py::test_guesses_of_event_keys_count_for_the_address_that_guesses", "unit/test_rates.py",
    ),
    "ten thousand idle connections, and a byte a second": ("system/test_connections.py",),
    "another method, by a header, a field or a trick": (
        f"{RAW}::test_no_header_and_no_field_makes_another_method_of_one",
        "system/test_door.py::test_a_method_that_is_not_there_is_told_with_those_that_are",
    ),
    "a call that is not signed, by another key, late, altered, cut short or in another writing": (
        "unit/test_signing.py::test_a_signature_that_is_none_is_refused_and_told_why",
        "unit/test_signing.py::test_a_signature_is_of_one_body_one_key_and_five_minutes",
        "unit/test_signing.py::test_a_signature_is_taken_whole_once_and_as_it_was_written",
        "system/test_served.py::test_a_call_without_the_signature_of_the_key_is_refused",
        "system/test_served.py::test_where_there_are_keys_but_none_to_sign_with_no_call_is_answered",
    ),
    "an application whose answer has no end, leads elsewhere or is about another run": (
        "system/test_remote_answers.py::test_whatever_an_app_answers_is_a_clear_error_of_its_run_and_its_page",
        "system/test_remote_answers.py::test_a_call_has_an_end_however_slowly_it_is_answered",
    ),
    "an application at this machine or a cloud's metadata, however that is written": (
        "unit/test_app_hosts.py", "unit/test_reach.py::test_this_machine_is_not_called_however_it_is_written",
        "unit/test_post.py::test_in_keys_mode_this_machine_is_not_called_however_it_is_written",
        "system/test_signed_calls.py::test_an_app_is_registered_only_at_an_address_that_may_be_called",
    ),
    "a name that means another address when it is called": (
        "unit/test_reach.py::test_a_name_that_has_come_to_mean_another_address_is_not_called",
    ),
    "a redirect to this machine": (
        "unit/test_reach.py::test_a_redirect_is_not_followed_and_a_request_for_where_it_leads_is_refused",
    ),
    "a name, a log or an exception that looks like a line of the log": (
        "unit/test_terminal.py::test_text_that_looks_like_a_line_of_the_log_or_commands_a_terminal_is_none",
    ),
    "a password or key in a log, page, error or repr": ("system/test_secrets.py", "unit/test_address.py"),
    "secrets in data and errors, an error of any length": (
        "unit/test_redaction.py", "system/test_redaction.py",
        "unit/test_words.py::test_of_an_error_as_long_as_one_likes_eight_thousand_characters_are_kept",
    ),
    "an error of ours that tells where it was": (
        "system/test_door.py::test_an_error_of_ours_is_json_with_a_number_that_the_log_knows",
    ),
    "data that is code": ("test_house.py::test_nothing_evaluates_text_or_unpickles",),
    "an expression without end, too deep, or in Python; a pattern that takes for ever": (
        "unit/test_expression.py::test_a_text_that_is_too_long_or_too_deep_is_refused",
        "unit/test_expression.py::test_a_pattern_that_takes_others_for_ever_is_answered_and_nothing_of_python_is_reached",
    ),
    "a schedule or a duration that makes no sense": (
        "guide/test_schedules.py::test_a_schedule_that_makes_no_sense_fails_when_declared",
        "unit/test_words.py::test_what_is_no_duration_is_refused_with_the_value",
    ),
    "one whose password of Redis is a worker's": (
        "system/test_doctor.py::test_the_documented_user_may_run_nothing_that_tells_of_what_is_not_its_own",
    ),
    "a Redis that is another, over TLS": ("redis/test_pipeline.py::test_tls_by_url_verifies_the_server",),
    "a container that is broken out of: its user is not root": (
        "system/test_compose.py::test_the_image_runs_as_a_user_whose_number_is_not_root_s",
    ),
}  # fmt: skip
"""Guesses of tokens are not bounded: they are random and compared in constant time. Of event keys: BUS_RATE_LIMIT."""

EVIL = '"><img src=x onerror=alert(1)><script>alert(1)</script>'
LINK = "javascript:alert(1)"
SLUG = f"t-{EVIL}"
RUN = run_id("t-f", "event", "a|1-0", now_ms() // 86_400_000 * 86_400_000)


@functools.cache
def names_in(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text())
    return {one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_each_attack_has_a_test_that_is_there() -> None:
    for attack, shown in SHOWN_BY.items():
        for one in shown:
            file, _, name = one.partition("::")
            assert not name or name in names_in(file), (attack, one)
            assert names_in(file), (attack, one)


@pytest.fixture
def store(store: "redis.Redis") -> "redis.Redis":
    """A store in which all that people or programs name is an attack."""
    for slug in ("t-f", SLUG):
        told = {
            "bus": "t",
            "id": slug[2:],
            "name": EVIL,
            "slug": slug,
            "on": [EVIL, LINK],
            "events": [EVIL],
            "code": EVIL,
        }
        store.hset(keys.functions(), slug, json.dumps({**told, "retries": 0, "flow": [EVIL], "cancels": [LINK]}))
    event = json.dumps({"id": EVIL, "name": EVIL, "data": {EVIL: LINK}, "ts": 1})
    error = json.dumps({"name": EVIL, "message": LINK + EVIL, "stack": EVIL})
    for n, (run, status) in enumerate(((RUN, "failed"), (f"{RUN[:-1]}0", "completed"), (f"{RUN[:-1]}1", "running"))):
        fields = {
            "status": status,
            "queued": "1",
            "turn": "1",
            "event": event,
            "worker": EVIL,
            "code": EVIL,
            "by": EVIL,
        }
        ends = {"error": error} if status == "failed" else {"output": json.dumps(EVIL)} if status == "completed" else {}
        store.hset(keys.run("t-f", run), mapping={**fields, **ends, "progress": json.dumps({"at": n, "text": EVIL})})
        store.hset(
            keys.steps("t-f", run), EVIL, json.dumps({"n": 1, "kind": EVIL, "data": EVIL, "started": 1, "ended": 2})
        )
        store.rpush(
            keys.log("t-f", run), json.dumps({"at": 1, "from": EVIL, "step": EVIL, "level": EVIL, "text": EVIL})
        )
        store.zadd(keys.runs("t-f", status), {run: 1})
    store.zadd(keys.workers(), {EVIL: now_ms() - 60_000})
    store.hset(keys.worker(EVIL), mapping={"host": EVIL, "version": LINK})
    store.hset(keys.errors("t-f"), "a" * 12, json.dumps({"name": EVIL, "frame": LINK, "message": EVIL}))
    store.hset(keys.controls(), f"paused event {EVIL}", json.dumps({"since": 1, "by": EVIL}))
    store.zadd(keys.event_names(), {EVIL: 1, "a": 1})
    store.xadd(keys.events(EVIL), {"data": json.dumps({EVIL: LINK}), "id": EVIL})
    store.hset(keys.apps(), EVIL, json.dumps({"name": EVIL, "url": LINK, "sdk": EVIL, "error": EVIL, "note": LINK}))
    for key in store.keys("*"):
        store.expire(key, 120)
    return store


@pytest.fixture
def http(settings: Settings, store: "redis.Redis") -> Generator[TestClient]:
    with TestClient(create_app(configured=settings), base_url="http://localhost") as client:
        yield client


class Read(HTMLParser):
    """What a browser would make of a page: its elements and their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def page_paths() -> list[str]:
    """The paths of all pages, of each thing there is, and of things that are an attack."""
    paths: set[str] = set()
    for route in ROUTES:
        if is_of_page(route) and method_of(route) == "GET" and route.path not in {"/live", "/health", "/ready"}:
            for part in (RUN, quote(SLUG, safe=""), quote(EVIL, safe="")):
                paths.add(re.sub(r"[{]\w+(:path)?[}]", lambda _, part=part: part, route.path))
    return sorted({*paths, f"/search?q={quote(EVIL)}", f"/runs?function={quote(EVIL)}", f"/errors?state={quote(EVIL)}"})


def test_no_page_has_markup_or_links_of_what_it_shows(http: TestClient) -> None:
    seen = 0
    for path in page_paths():
        answer = http.get(path, headers={"accept": "text/html"}, follow_redirects=False)
        assert answer.status_code < 500, (path, answer.text[:500])
        if "text/html" not in answer.headers.get("content-type", ""):
            continue
        seen += EVIL[2:8] in answer.text.replace("&lt;", "<")
        for tag, attributes in Read(answer.text).found:
            assert tag not in {"img", "iframe", "object", "embed", "base"}, (path, tag, attributes)
            assert tag != "script" or (attributes.get("src") or "").startswith("/static/"), (path, attributes)
            for name, text in attributes.items():
                assert not name.startswith("on"), (path, tag, name)
                assert not (text or "").strip().lower().startswith("javascript:"), (path, tag, name)
    assert seen >= 10, "the attacks are shown, as text"


def test_every_answer_says_what_a_browser_may_do_with_it(http: TestClient) -> None:
    for path in ("/", "/runs", "/nothing", "/v1/runs", "/v1/nothing", "/static/app.js", "/health", *page_paths()[::7]):
        for accepted in ("text/html", "application/json"):
            headers = http.get(path, headers={"accept": accepted}, follow_redirects=False).headers
            policy = headers["content-security-policy"]
            assert "default-src 'self'" in policy
            assert "script-src" not in policy, "scripts are what the default allows: those of the site"
            assert "frame-ancestors 'none'" in policy
            assert "base-uri 'none'" in policy
            assert "form-action 'self'" in policy
            assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "same-origin")
            assert "access-control-allow-origin" not in headers
            kind = headers.get("content-type", "").partition(";")[0]
            assert kind in {"", "text/html", "application/json", "text/javascript"}, (path, kind)


def test_a_page_of_another_site_may_not_act_where_the_browser_names_no_origin(http: TestClient) -> None:
    for route in ROUTES:
        if method_of(route) != "GET":
            answer = http.request(method_of(route), path_of(route), headers={"sec-fetch-site": "cross-site"})
            assert (answer.status_code, answer.json()["code"]) == (403, "origin"), told_of(route)
    for where in ("same-origin", "same-site", "none"):
        assert http.post("/e/k", json={"name": "a"}, headers={"sec-fetch-site": where}).status_code == 200


def test_no_form_acts_without_the_token_of_its_page(http: TestClient, store: "redis.Redis") -> None:
    elsewhere = {"/login", "/logout"}  # there where people log in: tests/system/test_login.py
    forms = [
        route for route in ROUTES if is_of_page(route) and method_of(route) == "POST" and route.path not in elsewhere
    ]
    assert len(forms) >= 15
    before = sorted(store.keys("*"))
    for route in forms:
        for cookie, field in (("", ""), ("x" * 32, ""), ("", "x" * 32), ("x" * 32, "y" * 32), ("x", "x")):
            http.cookies.clear()
            if cookie:
                http.cookies.set("stepstream_form", cookie)
            answer = http.post(path_of(route), data={"token": field}, headers={"accept": "application/json"})
            assert (answer.status_code, answer.json()["code"]) == (403, "form"), (told_of(route), cookie, field)
    assert sorted(set(store.keys("*")) - {keys.audit()}) == before, "nothing but that it was tried"


def test_a_list_of_runs_with_large_payloads_is_small(http: TestClient, store: "redis.Redis") -> None:
    big = json.dumps({"id": "e", "name": "a", "data": {"x": "y" * 1_048_576}, "ts": 1})
    stem = RUN[:-3]
    for n in range(20):
        run = f"{stem}A{n:02d}"
        store.hset(
            keys.run("t-f", run),
            mapping={"status": "completed", "queued": "1", "turn": "1", "event": big, "output": big},
        )
        store.expire(keys.run("t-f", run), 120)
        store.zadd(keys.runs("t-f", "completed"), {run: 1})
    for path in ("/v1/runs?limit=1000", "/runs", "/", "/v1/events?limit=100", "/events"):
        assert len(http.get(path, headers={"accept": "text/html"}).content) < 200_000, path


def test_pages_take_no_limit_and_no_cursor_of_anything(http: TestClient) -> None:
    for path in (
        "/",
        "/runs",
        "/events",
        "/functions",
        "/system",
        "/operations",
        "/errors",
        f"/event-names/{quote(EVIL)}",
    ):
        for junk in (
            "limit=1e9&cursor=%00&top=%F0%9F%92%A9",
            "limit=-1&cursor=%3Cscript%3E&since=1e99",
            "cursor=1-1-1&top=1",
        ):
            answer = http.get(f"{path}?{junk}", follow_redirects=False)
            assert answer.status_code < 500, (path, junk)
            assert len(answer.content) < 1_000_000


def test_who_is_led_on_stays_on_the_site(http: TestClient) -> None:
    names = ("next", "back", "url", "return", "redirect", "to")
    for text in ("https://evil.example", "//evil.example", "\\\\evil.example", "/\\evil.example", LINK, ""):
        asked = "&".join(f"{name}={quote(text, safe='')}" for name in names)
        for path in ("/search", f"/search?q={RUN}", f"/search?q={quote(SLUG)}", f"/search?q={quote(text)}"):
            where = f"{path}{'&' if '?' in path else '?'}{asked}"
            to = http.get(where, headers={"accept": "text/html"}, follow_redirects=False).headers.get("location")
            assert to is None or re.match(r"/(?![/\\])", to), (where, to)
    assert http.get(f"/search?q={RUN}", follow_redirects=False).headers["location"] == f"/runs/{RUN}"


def test_who_may_only_read_may_not_act() -> None:
    reads = {"POST /v0/gql", "POST /v1/realtime/token", "POST /v1/operations/count", "POST /operations/count"}
    reads |= {"POST /login", "POST /logout"}  # by which one becomes who may
    for route in ROUTES:
        if method_of(route) != "GET" and told_of(route) not in reads:
            assert route.needs in {"operate", "publish", "app", "admin"}, told_of(route)


def test_the_only_cookie_opens_nothing_and_is_kept_from_scripts_and_other_sites(
    settings: Settings, store: "redis.Redis"
) -> None:
    for scheme in ("http", "https"):
        with TestClient(create_app(configured=settings), base_url=f"{scheme}://localhost") as http:
            page = http.get("/functions/t-f", headers={"accept": "text/html"})
            [cookie] = page.headers.get_list("set-cookie")
            flags = {one.strip().lower() for one in cookie.split(";")[1:]}
            assert {"httponly", "samesite=lax", "path=/"} <= flags
            assert ("secure" in flags) is (scheme == "https")
            http.cookies.clear()
            http.cookies.set("stepstream_form", "planted")  # by another page of the same host: it is not taken
            [fresh] = http.get("/functions/t-f", headers={"accept": "text/html"}).headers.get_list("set-cookie")
            assert "planted" not in fresh
            assert fresh.split(";")[0] != cookie.split(";")[0]
