"""Keys mode: what the official SDKs do with the keys they have, and what they are told when those are others'."""

import json
from collections.abc import Generator
from typing import Any

import httpx2
import pytest

from stepstream.bus.trust.signing import HEADER, SignatureInvalid, signed, verify
from stepstream.bus.values.clock import now_ms
from tests.forks import bus
from tests.sdk.stack import EVENT_KEY, FOREIGN, KEY, NEWER, OLDER, Stack, until

pytestmark = [pytest.mark.sdk, pytest.mark.keys]


@pytest.fixture(autouse=True)
def _as_it_was(stack: Stack) -> Generator[None]:
    """The application has its own keys again after a test."""
    yield
    if stack.app.changed:
        stack.app.restart()
        assert stack.app.register().status_code == 200


def _said(stack: Stack) -> dict[str, Any]:
    """Return what is said of the application."""
    told = bus("apps", "--json", env=stack.given)
    assert told.returncode == 0, told.stderr
    return next(app for app in json.loads(told.stdout) if app["name"] == "matrix")


def _works(stack: Stack, n: int) -> None:
    """Steps are saved, an event is sent, a signal too, and a large state is fetched: each with a key."""
    stack.send_all(
        {"name": "t/steps", "data": {"n": n}},
        {"name": "t/send", "data": {"of": n}},
        {"name": "t/large", "data": {"n": n}},
    )
    assert stack.output("steps", {"n": n})["same"] == [0, 1, 2]
    assert stack.output("send", {"of": n}) == 2
    assert len(stack.ended("sent", {"of": n}, 2)) == 2
    if stack.is_python:
        return
    stack.send("t/signal", {"signal": f"keys-{n}"})
    run = until(lambda: stack.of("signal", {"signal": f"keys-{n}"}), "it runs")[0]
    stack.step(run, "wait", "waiting")
    stack.send("t/signaller", {"signal": f"keys-{n}"})
    assert stack.output("signal", {"signal": f"keys-{n}"}) == {"n": 9}


def test_an_application_that_has_the_old_key_still(stack: Stack) -> None:
    stack.app.restart(INNGEST_SIGNING_KEY=OLDER)
    assert stack.app.register().status_code == 200
    _works(stack, 101)


def test_an_application_that_has_the_next_key_already_and_ours_to_fall_back_on(stack: Stack) -> None:
    stack.app.restart(INNGEST_SIGNING_KEY=NEWER, INNGEST_SIGNING_KEY_FALLBACK=KEY)
    assert stack.app.register().status_code == 200
    _works(stack, 102)
    if stack.sdk != "v3.46.0":  # which hashes what is signed in JavaScript: seconds for each call with a large state
        stack.send("t/large", {"n": 102})
        assert stack.output("large", {"n": 102})["size"] == 6_000_000, "the state is fetched with a key too"


def test_an_application_with_another_key_runs_nothing_and_is_told_how_to_mend_it(stack: Stack) -> None:
    stack.app.restart(INNGEST_SIGNING_KEY=FOREIGN)
    refused = stack.app.register()
    assert max(refused.status_code, refused.json().get("status", 0)) >= 400, (
        "the Python SDK hands our answer on, as 200"
    )
    stack.send("t/steps", {"n": 103})
    run = stack.status("steps", {"n": 103}, "waiting")
    assert "it must have our BUS_SIGNING_KEY as its INNGEST_SIGNING_KEY" in run["error"]["message"]
    assert stack.lines(run=run["id"], fn="steps") == []
    said = _said(stack)
    assert said["error_code"] == "unauthorized"
    done = bus("apps", "sync", stack.app.url, env=stack.given)
    assert done.returncode != 0
    assert "key" in done.stdout + done.stderr
    for secret in (KEY, FOREIGN):
        assert secret[13:] not in refused.text + json.dumps(said) + done.stdout + done.stderr
    assert stack.http.delete(f"/v1/runs/{run['id']}").status_code < 300
    stack.app.restart(INNGEST_SIGNING_KEY=KEY)
    done = bus("apps", "sync", stack.app.url, env=stack.given)
    assert done.returncode == 0, done.stdout + done.stderr
    assert _said(stack)["error_code"] == ""


def test_an_application_with_another_event_key_sends_nothing_and_is_told_why(stack: Stack) -> None:
    stack.app.restart(INNGEST_EVENT_KEY="another")
    assert stack.app.register().status_code == 200
    stack.send("t/send", {"of": 104})
    run = until(lambda: stack.of("send", {"of": 104}), "it runs")[0]
    noted = stack.step(run, "tell", "retrying")
    assert "Event key not found" in noted["error"]["message"]
    assert stack.of("sent", {"of": 104}) == []
    assert stack.http.delete(f"/v1/runs/{run['id']}").status_code < 300


def test_what_is_not_signed_by_our_key_runs_nothing(stack: Stack) -> None:
    body = json.dumps({"ctx": {"run_id": "r"}, "event": {}, "events": [], "steps": {}, "use_api": False}).encode()
    for headers in ({}, signed(body, FOREIGN, now_ms())[1], signed(body, KEY, now_ms() - 600_000)[1]):
        if (
            stack.is_python
            and HEADER in headers
            and headers[HEADER] == signed(body, KEY, now_ms() - 600_000)[1][HEADER]
        ):
            continue
        answer = httpx2.post(f"{stack.app.url}?fnId=matrix-steps&stepId=step", content=body, headers=headers)
        assert answer.status_code in {401, 500}
    for route in ("/fn/register", "/v1/checkpoint/x/async"):
        assert httpx2.post(f"{stack.url}{route}", json={}).status_code == 401
    assert httpx2.get(f"{stack.url}/v0/runs/x/actions").status_code == 401


@pytest.mark.sdks("v3.54", "v4", "py")
def test_what_an_application_answers_is_signed_as_we_check_signatures(stack: Stack) -> None:
    """It is not asked for: but a native application checks signatures with the same code.

    3.46.0 signs too, with a time in ms where its own check of ours wants seconds.
    """
    asked, signature = signed(json.dumps({"url": stack.app.url}).encode(), KEY, now_ms())
    headers = {"content-type": "application/json", "x-inngest-sync-kind": "in_band", "x-inngest-server-kind": "cloud"}
    answer = httpx2.put(stack.app.url, content=asked, headers=headers | signature, timeout=60)
    assert (answer.status_code, answer.headers["x-inngest-sync-kind"]) == (200, "in_band")
    verify(answer.content, answer.headers[HEADER], [KEY], now_ms())
    with pytest.raises(SignatureInvalid):
        verify(answer.content, answer.headers[HEADER], [FOREIGN], now_ms())
    assert {one["id"] for one in answer.json()["functions"]} == set(_said(stack)["functions"])


@pytest.mark.parametrize(("function", "options"), [("fetch", {"url": "{}/echo"}), ("infer", {"url": "{}/v1"})])
def test_this_machine_is_not_called_for_an_application(
    stack: Stack, provider: str, function: str, options: dict[str, str]
) -> None:
    if stack.is_python and function == "fetch":
        pytest.skip("that SDK has no step.fetch")
    data = {name: text.format(provider) for name, text in options.items()}
    stack.send(f"t/{function}", data)
    run = stack.ended(function, data)[0]
    assert run["status"] == "failed"
    assert "let the app call it, in step.run" in run["error"]["message"]


def test_another_event_key_publishes_nothing(stack: Stack) -> None:
    assert httpx2.post(f"{stack.url}/e/{EVENT_KEY}x", json=[{"name": "t/steps", "data": {"n": 105}}]).status_code == 401
    assert stack.of("steps", {"n": 105}) == []
