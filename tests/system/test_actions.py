"""Acting over HTTP and from the command line: cancel, rerun, signal, invoke; never by GET, never for another site."""

import asyncio
import os
import subprocess
import threading
from collections.abc import Generator

import pytest
import redis
from starlette.testclient import TestClient

from stepstream import create_app
from stepstream.bus.bus import Bus
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.consumers.worker import Worker, running
from tests import forks
from tests.patience import PATIENT_S
from tests.support import fields, until


@pytest.fixture
def http(settings: Settings) -> Generator[TestClient]:
    """The site, and a worker in a thread of its own."""
    ended, begun = threading.Event(), threading.Event()
    app = Bus("t")

    @app.function("nap", on="nap")
    async def nap(ctx, step):
        await step.run("first", lambda: 1)
        ctx.progress(40, processed=7)
        await step.sleep("nap", "1h")

    @app.function("listen", on="listen")
    async def listen(ctx, step):
        return await step.wait_for_signal("word", "open <b>", timeout="1h")

    @app.function("double")
    async def double(ctx, step):
        return ctx.event.data["n"] * 2

    async def work() -> None:
        async with running(Worker(app, settings=settings)):
            begun.set()
            while not ended.is_set():
                await asyncio.sleep(0.01)

    thread = threading.Thread(target=lambda: asyncio.run(work()))
    thread.start()
    assert begun.wait(PATIENT_S)
    with TestClient(create_app(configured=settings)) as client:
        yield client
    ended.set()
    thread.join(PATIENT_S)


def waiting(http: TestClient, event: str) -> str:
    """Publish an event; return its run's id once the run waits."""
    http.post("/e/k", json={"name": event})
    return until(
        lambda: next((run["id"] for run in http.get("/v1/runs?status=waiting").json()["data"]), ""), "it waits"
    )


def test_delete_cancels_a_run_once(http: TestClient) -> None:
    run = waiting(http, "nap")
    assert http.delete(f"/v1/runs/{run}").json() == {"data": {"id": run, "status": "cancelled"}}
    assert http.get(f"/v1/runs/{run}").json()["data"]["status"] == "cancelled"
    again = http.delete(f"/v1/runs/{run}")
    assert (again.status_code, again.json()["data"]["status"]) == (200, "cancelled"), "there is nothing left to do"
    assert http.delete("/v1/runs/01ARZ3NDEKTSV4RRFFQ69G5FAV").status_code == 404


def test_rerun_from_a_step(http: TestClient) -> None:
    run = waiting(http, "nap")
    answer = http.post(f"/v1/runs/{run}/rerun", json={"from": "first", "request": "r1"})
    assert (answer.status_code, answer.json()["code"]) == (409, "not_ended"), "a second one beside it, unasked"
    answer = http.post(f"/v1/runs/{run}/rerun", json={"from": "first", "request": "r1", "beside": True})
    new = answer.json()["data"]["id"]
    until(lambda: http.get(f"/v1/runs/{new}").json()["data"]["status"] == "waiting", "the new run waits")
    assert http.get(f"/v1/runs/{new}").json()["data"]["rerun_of"] == run
    refused = http.post(f"/v1/runs/{run}/rerun", json={"from": "nope", "beside": True})
    assert (refused.status_code, "no finished step 'nope'" in refused.json()["error"]) == (400, True)
    assert http.post(f"/v1/runs/{run}/rerun", content=b"[1]").status_code == 400
    assert http.post(f"/v1/runs/{run}/rerun", json={"form": 1}).status_code == 400


def test_a_signal_reaches_the_run_that_waits_or_nobody(http: TestClient) -> None:
    run = waiting(http, "listen")
    sent = http.post("/v1/signals", json={"signal": "open <b>", "data": {"n": 1}})
    assert sent.json()["data"] == {"run_id": run}
    assert http.get(f"/v1/runs/{run}?wait=5").json()["data"]["output"] == {"n": 1}
    assert http.post("/v1/signals", json={"signal": "open <b>"}).status_code == 404
    assert http.post("/v1/signals", json={"signal": 7}).status_code == 400


def test_invoke_runs_a_function_by_its_slug(http: TestClient) -> None:
    run = http.post("/invoke/t-double", json={"data": {"n": 21}}).json()["data"]["id"]
    assert http.get(f"/v1/runs/{run}").status_code == 200
    assert http.get(f"/v1/runs/{run}?wait=5").json()["data"]["output"] == 42
    assert http.post("/invoke/nobody", json={}).status_code == 404
    assert http.post("/invoke/t-double", json={"data": [1]}).status_code == 400


def test_actions_are_refused_to_get_and_to_pages_of_other_sites(http: TestClient) -> None:
    run = waiting(http, "nap")
    for path in (f"/runs/{run}/cancel", f"/runs/{run}/rerun"):
        assert http.get(path).status_code == 405
        assert http.post(path, headers={"origin": "https://evil.example"}).status_code == 403
    for path in (f"/v1/runs/{run}/rerun", "/v1/signals", "/invoke/t-double"):
        assert http.post(path, json={}, headers={"origin": "https://evil.example"}).status_code == 403
    assert http.delete(f"/v1/runs/{run}", headers={"origin": "https://evil.example"}).status_code == 403
    assert http.get(f"/v1/runs/{run}").json()["data"]["status"] == "waiting"


def test_the_page_shows_progress_and_what_is_waited_for_and_its_buttons_act(http: TestClient) -> None:
    run = waiting(http, "nap")
    page = http.get(f"/runs/{run}").text
    assert "40 %" in page
    assert "processed 7" in page
    assert "begin a second one beside it</button>" in page
    form = fields(page)
    once = {name: value for name, value in form.items() if name != "beside"}
    assert http.post(f"/runs/{run}/rerun", data=once, follow_redirects=False).status_code == 409
    assert http.post(f"/runs/{run}/cancel", data=form, follow_redirects=False).headers["location"] == f"/runs/{run}"
    assert "Cancel this run</button>" not in http.get(f"/runs/{run}").text
    again = http.post(f"/runs/{run}/rerun", data=form, follow_redirects=False).headers["location"]
    assert http.post(f"/runs/{run}/rerun", data=form, follow_redirects=False).headers["location"] == again, "once"
    assert f"/runs/{run}" in http.get(again).text
    assert again in http.get(f"/runs/{run}").text, "run again as"
    listener = waiting_for_signal(http)
    page = http.get(f"/runs/{listener}").text
    assert "waits for signal open &lt;b&gt;" in page
    form = {**fields(page), "data": '{"by": "ann"}'}
    for _ in range(2):  # pressed twice
        answer = http.post(f"/runs/{listener}/signal", data=form, follow_redirects=False)
        assert (answer.status_code, answer.headers.get("location")) == (303, f"/runs/{listener}")
    assert http.get(f"/v1/runs/{listener}?wait={PATIENT_S}").json()["data"]["output"] == {"by": "ann"}


def test_a_run_is_run_again_with_another_input(http: TestClient) -> None:
    run = http.post("/invoke/t-double", json={"data": {"n": 1}}).json()["id"]
    assert http.get(f"/v1/runs/{run}?wait={PATIENT_S}").json()["data"]["output"] == 2
    form = fields(http.get(f"/runs/{run}").text)
    new = http.post(f"/runs/{run}/rerun", data={**form, "data": '{"n": 50}'}, follow_redirects=False)
    assert http.get(f"/v1{new.headers['location']}?wait={PATIENT_S}").json()["data"]["output"] == 100
    for wrong in ("", "[1]", "{", '{"a":1,"a":2}', "[" * 10_000):
        assert http.post(f"/runs/{run}/rerun", data={**form, "data": wrong}, follow_redirects=False).status_code == 400


def test_a_form_without_the_token_of_its_browser_acts_on_nothing(http: TestClient) -> None:
    run = waiting(http, "nap")
    good = fields(http.get(f"/runs/{run}").text)
    for wrong in ({}, {"token": ""}, {"token": "x" * 32}, {"token": good["token"][:-1]}):
        for act in ("cancel", "rerun", "signal"):
            answer = http.post(
                f"/runs/{run}/{act}", data={**good, "token": "", **wrong}, headers={"accept": "text/html"}
            )
            assert (answer.status_code, "load it again" in answer.text) == (403, True)
    kept = dict(http.cookies)
    http.cookies.clear()
    assert http.post(f"/runs/{run}/cancel", data=good).status_code == 403
    cookie = http.get(f"/runs/{run}").headers["set-cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=lax", "Path=/"))
    assert "Secure" not in cookie, "it is asked without TLS"
    assert kept
    assert http.get(f"/v1/runs/{run}").json()["data"]["status"] == "waiting"


def waiting_for_signal(http: TestClient) -> str:
    http.post("/e/k", json={"name": "listen"})
    return until(
        lambda: next(
            (r["id"] for r in http.get("/v1/runs?status=waiting&function=t-listen").json()["data"]),
            "",
        ),
        "it waits",
    )


def test_the_commands(http: TestClient, settings: Settings) -> None:
    run = waiting(http, "nap")

    def bus(*words: str) -> "subprocess.CompletedProcess[str]":
        return forks.bus(*words, env={**os.environ, "BUS_REDIS_URL": settings.redis_url})

    assert "--beside" in bus("rerun", run, "--from", "first").stderr
    again = bus("rerun", run, "--from", "first", "--beside")
    assert (again.returncode, len(again.stdout.strip())) == (0, 26)
    assert bus("cancel", run).stdout == f"{run}  cancelled\n"
    assert "has ended already" in bus("cancel", run).stderr
    doubled = bus("invoke", "t-double", "n=4", "--wait", "10")
    assert (doubled.returncode, doubled.stdout.split()[1:]) == (0, ["completed", "8"])
    failed = bus("invoke", "t-double", "m=4", "--wait", "0.2")
    assert failed.returncode == 2
    assert "there are t-double, t-listen, t-nap" in bus("invoke", "nobody").stderr
    assert "no run 'nope'" in bus("rerun", "nope").stderr
    with redis.Redis.from_url(settings.redis_url) as store:
        until(lambda: store.zcard(keys.runs("t-nap", "waiting")) == 1, "it waits")
