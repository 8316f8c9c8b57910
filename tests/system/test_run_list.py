"""The page of runs: its filters stand in the URL, its rows stand still, and what it cannot look up it says."""

import json
import re
from urllib.parse import quote

import pytest
import redis
from starlette.testclient import TestClient

from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.ids import run_id
from stepstream.bus.wire import keys
from stepstream.web.pages import runs as run_list

NASTY = '"><img src=x onerror=alert(1)><script>alert(1)</script>'
PART = {"hx-request": "true"}
NOW = now_ms()


def put(store: "redis.Redis", slug: str, n: int, status: str = "completed", data: object = None, **fields: str) -> str:
    run = run_id(slug, "event", f"a|{n}-0", NOW - n)
    event = json.dumps({"id": "e", "name": "shop/paid", "data": data or {}, "ts": 1})
    stored = {"status": status, "queued": str(NOW - n), "started": str(NOW - n), "turn": "1", "event": event, **fields}
    store.hset(keys.run(slug, run), mapping=stored)
    store.expire(keys.run(slug, run), 600)
    store.zadd(keys.runs(slug, status), {run: NOW - n})
    return run


@pytest.fixture
def store(store: "redis.Redis") -> "redis.Redis":
    for slug in ("t-f", "t-g"):
        known = {"bus": "t", "id": slug[2:], "name": slug, "slug": slug, "on": ["shop/paid"], "events": ["shop/paid"]}
        store.hset(keys.functions(), slug, json.dumps({**known, "retries": 4, "code": "x"}))
    return store


def shown(page: str) -> list[str]:
    return re.findall(r'<tr data-row id="run-([0-9A-Z]+)"', page)


def test_filters_stand_in_the_url_and_in_the_form(http: TestClient, store: "redis.Redis") -> None:
    error = json.dumps({"name": "Boom", "message": NASTY, "stack": ""})
    failed = put(store, "t-f", 1, "failed", error=error)
    paid = put(store, "t-g", 2, data={"total": 150})
    put(store, "t-g", 3, data={"total": 50})
    assert len(shown(http.get("/runs").text)) == 3
    page = http.get("/runs?status=failed&function=t-f").text
    assert shown(page) == [failed]
    assert 'value="failed" checked' in page
    assert 'value="t-f" checked' in page
    several = http.get("/runs?function=t-f&function=t-g").text
    assert len(shown(several)) == 3
    assert several.count(" checked> t-") == 2, "the form offers as many as the URL takes"
    assert "&lt;script&gt;alert(1)" in page
    assert "<img" not in page
    assert "1 run</span>" in page
    assert shown(http.get(f"/runs?where={quote('event.data.total > 100')}").text) == [paid]
    assert "1 run, of the 3 looked at" in http.get(f"/runs?where={quote('event.data.total > 100')}").text
    none = http.get("/runs?status=waiting").text
    assert "No run matches" in none
    assert shown(http.get("/runs?status=failed,completed&since=1h").text)[0] == failed


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("status=nope", "is not known: use one of"), ("function=nobody", "is not registered"), ("since=yesterday", "since"),
        ("where=event.data.x+%3D%3D", "is not an expression"), ("cursor=junk", "is not one of ours"),
        ("top=junk", "is not one of ours"), ("limit=1e9", "is no filter of runs"), (f"x={quote(NASTY)}", "is no filter"),
        (f"status={quote(NASTY)}", "is not known"), ("since=1h&until=2h", "no run is both"),
    ],
)  # fmt: skip
def test_what_cannot_be_looked_up_is_said_and_never_taken_for_no_runs(
    http: TestClient, store: "redis.Redis", query: str, words: str
) -> None:
    put(store, "t-f", 1)
    answer = http.get(f"/runs?{query}")
    assert "could not be looked up" in answer.text
    assert words in answer.text
    assert not any(told in answer.text for told in ("No run matches", "Nothing has run yet"))
    assert "<img" not in answer.text
    assert "<script>alert" not in answer.text
    assert 'data-topic=""' in answer.text, "it does not change by itself"


def test_a_row_never_moves_new_ones_wait_above_it(http: TestClient, store: "redis.Redis") -> None:
    first = [put(store, "t-f", n) for n in (50, 60, 70)]
    page = http.get("/runs?function=t-f").text
    assert shown(page) == first
    (again,) = re.findall(r'data-query="([^"]*)"', page)
    assert http.get(f"/runs{again.replace('&amp;', '&')}", headers=PART).text.count(" new</a>") == 0
    newer = [put(store, "t-f", n) for n in (10, 20)]
    put(store, "t-g", 5)
    part = http.get(f"/runs{again.replace('&amp;', '&')}", headers=PART).text
    assert shown(part) == first
    assert "2 new</a>" in part
    assert not part.startswith("<!doctype")
    assert "<nav" not in part
    assert re.findall(r'data-query="([^"]*)"', part) == [again]
    (own,) = re.findall(r'<a href="(/runs[^"]*)">2 new</a>', part)
    assert shown(http.get(own.replace("&amp;", "&")).text) == [*newer, *first]


def test_pages_follow_each_other_and_lose_and_double_nothing(
    http: TestClient, store: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_list, "SHOWN", 2)
    every = [put(store, "t-f", n) for n in range(100, 105)]
    found: list[str] = []
    link = "/runs"
    while link:
        page = http.get(link.replace("&amp;", "&")).text
        found += shown(page)
        link = next(iter(re.findall(r'<a href="([^"]*)" rel="next">', page)), "")
        put(store, "t-f", len(found))
    assert found == every


def test_search_leads_to_what_has_that_name_and_says_where_it_looked(http: TestClient, store: "redis.Redis") -> None:
    run = put(store, "t-f", 1)
    for text, place in ((run, f"/runs/{run}"), ("t-f", "/functions/t-f"), ("", "/runs")):
        found = http.get(f"/search?q={text}", follow_redirects=False)
        assert (found.status_code, found.headers["location"]) == (303, place)
    part = http.get("/search?q=T-").text
    assert part.count('href="/functions/t-') == 2
    assert "?key=" not in part, "nobody asked for a key"
    nothing = http.get(f"/search?q={quote(NASTY)}")
    assert nothing.status_code == 404
    assert "Looked at" in nothing.text
    assert "/runs?key=" in nothing.text
    assert "<img" not in nothing.text
    for away in ("//evil.example", "https://evil.example", "/\\evil.example"):
        assert http.get(f"/search?q={quote(away)}", follow_redirects=False).status_code == 404


def test_nothing_that_a_run_says_is_taken_for_markup(http: TestClient, store: "redis.Redis") -> None:
    error = {"name": NASTY, "message": f"{NASTY}\x1b]0;x\x07", "stack": NASTY}
    run = put(
        store, "t-f", 1, "running", data={"javascript:alert(1)": NASTY}, worker=NASTY, error=json.dumps(error),
        code=NASTY, source=NASTY, progress=json.dumps({"percent": 1, NASTY: NASTY}), logged="1", why=NASTY, by=NASTY,
        parent=f"t-f|{NASTY}|s", rerun_of=NASTY,
    )  # fmt: skip
    memo = {"n": 1, "kind": NASTY, "attempts": 2, "begun": 1, "ended": 2, "error": error}
    store.hset(keys.steps("t-f", run), NASTY, json.dumps(memo))
    what = {"event": NASTY, "if": NASTY, "match": NASTY, "signal": "", "function": NASTY, "run": NASTY}
    noted = {"since": 1, "kind": "signal", "due": NOW, "what": {**what, "event": "", "signal": NASTY}}
    store.hset(keys.open_steps("t-f", run), f"open {NASTY}", json.dumps(noted))
    store.rpush(keys.log("t-f", run), json.dumps({"at": 1, "from": NASTY, "text": NASTY, "step": NASTY}))
    store.rpush(
        keys.attempts("t-f", run), json.dumps({"ended": 5, "step": NASTY, "attempt": 1, "took": 1, "error": error})
    )
    for key in (keys.steps("t-f", run), keys.open_steps("t-f", run), keys.log("t-f", run), keys.attempts("t-f", run)):
        store.expire(key, 600)
    for path in (f"/runs/{run}", "/runs", "/"):
        page = http.get(path)
        assert page.status_code == 200, path
        assert "<img" not in page.text, path
        assert "<script>alert" not in page.text, path
        assert 'href="javascript:' not in page.text, path
        assert page.headers["content-security-policy"].startswith("default-src 'self'"), path
        assert " style=" not in page.text, "what the policy refuses is not there"
        assert not re.search(r"<script(?! src=)| on[a-z]+=\"", page.text), path
    assert "&lt;img" in http.get(f"/runs/{run}").text
