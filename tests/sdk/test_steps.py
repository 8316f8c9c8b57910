"""What applications of the official SDKs do in a function: each operation, by real processes."""

import time

import pytest

from tests.sdk.stack import WITHIN_S, Stack, until

pytestmark = pytest.mark.sdk


@pytest.mark.both
def test_steps_are_recorded_once_and_repeated_ids_are_apart(stack: Stack) -> None:
    stack.send("t/steps", {"n": 1})
    run = stack.ended("steps", {"n": 1})[0]
    expected = {"a": {"n": 1, "text": "Zürich ✓", "list": [1, 2.5, None]}, "none": None, "same": [0, 1, 2]}
    assert (run["status"], run["output"]) == ("completed", expected)
    assert [line["step"] for line in stack.lines(run=run["id"], fn="steps")] == ["a", "same0", "same1", "same2"]
    assert list(stack.steps(run)) == ["a", "none", "same", "same:1", "same:2"]
    calls = stack.calls(run["id"], 1 if stack.saves else 6)
    assert len(calls) == (1 if stack.saves else 6), "v4 saves its steps while its one call is open"
    assert {call["version"] for call in calls} <= {"-1", "1" if stack.is_early else "2"}


def test_an_error_of_a_step_is_caught_by_the_code(stack: Stack) -> None:
    stack.send("t/caught", {"n": 1})
    assert stack.output("caught", {"n": 1}) == "caught: x is undefined"
    assert len(stack.lines(fn="caught", step="bad")) == 1


def test_a_step_asks_to_be_tried_again_later(stack: Stack) -> None:
    stack.send("t/later", {"n": 1})
    run = stack.ended("later", {"n": 1})[0]
    assert (run["status"], run["output"]) == ("completed", 1)
    assert [line["attempt"] for line in stack.lines(fn="later", run=run["id"])] == [0, 1]


@pytest.mark.about("retries")
def test_a_step_that_fails_waits_as_the_sdks_expect(stack: Stack) -> None:
    stack.send("t/backoff", {"n": 1})
    run = stack.status("backoff", {"n": 1}, "waiting")
    noted = stack.step(run, "flaky", "retrying")
    assert noted["error"]["message"] == "try me later"
    failed = stack.lines(fn="backoff", run=run["id"])[0]["at"]
    assert 15_000 <= noted["due"] - failed < 45_000 + 1_000 * WITHIN_S, "15 s and up to 30 s, once it is known"
    assert stack.http.delete(f"/v1/runs/{run['id']}").status_code < 300
    stack.status("backoff", {"n": 1}, "cancelled")


def test_an_error_for_good_is_tried_once_and_fails_the_run(stack: Stack) -> None:
    stack.send("t/for-good", {"n": 1})
    run = stack.ended("for-good", {"n": 1})[0]
    assert (run["status"], run["error"]["message"]) == ("failed", "never")
    assert len(stack.lines(fn="for-good", run=run["id"])) == 1


def test_code_between_steps_that_throws_is_tried_again_without_its_steps(stack: Stack) -> None:
    stack.send("t/between", {"n": 1})
    run = stack.ended("between", {"n": 1})[0]
    assert (run["status"], run["output"]) == ("completed", {"a": 1, "attempt": 1})
    assert len(stack.lines(fn="between", run=run["id"])) == 1


@pytest.mark.about("onFailure")
@pytest.mark.both
def test_on_failure_is_called_with_what_failed(stack: Stack) -> None:
    stack.send("t/fails", {"n": 7})
    run = stack.ended("fails", {"n": 7})[0]
    assert (run["status"], run["error"]["message"]) == ("failed", "boom")
    told = until(lambda: [one for one in stack.runs("fails-failure") if one["status"] == "completed"], "it is called")
    assert told[0]["output"] == {"function_id": "matrix-fails", "run_id": run["id"], "message": "boom", "n": 7}


@pytest.mark.both
def test_parallel_steps_run_side_by_side(stack: Stack) -> None:
    stack.send("t/parallel", {"n": 1})
    run = stack.ended("parallel", {"n": 1})[0]
    assert (run["status"], run["output"]) == ("completed", {"sum": 2, "after": "after"})
    assert sorted(line["step"] for line in stack.lines(fn="parallel", run=run["id"])) == ["p", "q"]
    calls = stack.calls(run["id"], 4 if stack.saves else 6 if stack.is_python else 1)
    if stack.saves:
        assert len(calls) == 4, "a plan, both steps, and one that saves the rest"
    if stack.is_python:
        assert len(calls) == 6, "a plan, both steps, sum, after, the end"


def test_a_step_a_sleep_a_wait_and_a_call_side_by_side(stack: Stack) -> None:
    stack.send("t/mixed", {"n": 1})
    run = until(lambda: stack.of("mixed", {"n": 1}), "it runs")[0]
    stack.step(run, "go", "waiting")
    stack.send("t/mixed.go", {"word": "go"})
    expected = {"ran": "ran", "slept": None, "got": {"word": "go"}, "invoked": 8}
    assert stack.output("mixed", {"n": 1}) == expected


def test_the_first_of_a_race_goes_on_while_the_other_runs(stack: Stack) -> None:
    """`slow` waits until `after` has begun: so the run ends only if that did not wait for `slow`."""
    stack.send("t/race", {"n": 1})
    assert stack.output("race", {"n": 1}) == "fast"


def test_sleep_for_a_while_and_until_a_moment(stack: Stack) -> None:
    until_ms = round(time.time() * 1_000) + 1_600
    stack.send("t/sleep", {"until": until_ms})
    run = stack.ended("sleep", {"until": until_ms})[0]
    assert (run["status"], run["output"]) == ("completed", "awake")
    assert run["ended"] >= until_ms
    steps = stack.steps(run)
    assert steps["nap"]["ended"] - steps["nap"]["started"] >= (600 if stack.is_python else 995), (
        "that SDK tells a moment by its own clock"
    )
    assert len(stack.calls(run["id"], 3)) == 3


def test_wait_for_an_event_that_matches(stack: Stack) -> None:
    stack.send("t/wait", {"id": 5})
    run = until(lambda: stack.of("wait", {"id": 5}), "it runs")[0]
    stack.step(run, "answer", "waiting")
    stack.send_all({"name": "t/answer", "data": {"id": 6}}, {"name": "t/answer", "data": {"id": 5, "word": "yes"}})
    assert stack.output("wait", {"id": 5}) == {"id": 5, "word": "yes"}


@pytest.mark.sdks("v")
def test_wait_for_an_event_that_has_the_same_at_a_path(stack: Stack) -> None:
    stack.send("t/wait-match", {"id": 5})
    run = until(lambda: stack.of("wait-match", {"id": 5}), "it runs")[0]
    stack.step(run, "answer", "waiting")
    stack.send_all({"name": "t/match", "data": {"id": 6}}, {"name": "t/match", "data": {"id": 5, "word": "yes"}})
    assert stack.output("wait-match", {"id": 5}) == {"id": 5, "word": "yes"}


def test_wait_for_an_event_that_does_not_come(stack: Stack) -> None:
    stack.send("t/wait-timeout", {"n": 1})
    assert stack.output("wait-timeout", {"n": 1}) == {"got": None}


@pytest.mark.both
@pytest.mark.parametrize(
    ("function", "output"),
    [
        ("invoke", 42),
        ("invoke-fails", {"caught": "child is broken"}),
        ("invoke-timeout", {"caught": "Timed out waiting for invoked function to complete"}),
    ],
)
def test_call_another_function(stack: Stack, function: str, output: object) -> None:
    stack.send(f"t/{function}", {"n": 1})
    assert stack.output(function, {"n": 1}) == output


def test_call_a_function_that_is_not_there(stack: Stack) -> None:
    stack.send("t/invoke-unknown", {"n": 1})
    assert "matrix-nobody" in stack.output("invoke-unknown", {"n": 1})["caught"]


def test_send_events_from_a_step_once(stack: Stack) -> None:
    stack.send("t/send", {"of": 3})
    assert stack.output("send", {"of": 3}) == 2
    runs = stack.ended("sent", {"of": 3}, 2)
    assert sorted(run["output"]["n"] for run in runs) == [1, 2]


@pytest.mark.sdks("v")
def test_wait_for_a_signal_and_send_it_from_a_step(stack: Stack) -> None:
    stack.send("t/signal", {"signal": "s-1"})
    run = until(lambda: stack.of("signal", {"signal": "s-1"}), "it runs")[0]
    stack.step(run, "wait", "waiting")
    stack.send("t/signaller", {"signal": "s-1"})
    assert stack.output("signal", {"signal": "s-1"}) == {"n": 9}


@pytest.mark.sdks("v")
def test_a_signal_that_does_not_come(stack: Stack) -> None:
    stack.send("t/signal", {"signal": "s-2", "timeout": "300ms"})
    assert stack.output("signal", {"signal": "s-2"}) is None


@pytest.mark.sdks("v")
def test_one_signal_is_waited_for_by_one_run(stack: Stack) -> None:
    stack.send("t/signal", {"signal": "s-3", "n": 1})
    first = until(lambda: stack.of("signal", {"signal": "s-3", "n": 1}), "it runs")[0]
    stack.step(first, "wait", "waiting")
    stack.send("t/signal", {"signal": "s-3", "n": 2})
    second = stack.ended("signal", {"signal": "s-3", "n": 2})[0]
    assert second["status"] == "failed"
    assert "signal" in second["error"]["message"].lower()
    stack.send("t/signal", {"signal": "s-3", "n": 3, "conflict": "replace"})
    third = until(lambda: stack.of("signal", {"signal": "s-3", "n": 3}), "it runs")[0]
    stack.step(third, "wait", "waiting")
    assert stack.http.post("/v1/signals", json={"signal": "s-3", "data": {"n": 4}}).status_code == 200
    assert stack.output("signal", {"n": 3}) == {"n": 4}
    assert stack.of("signal", {"signal": "s-3", "n": 1})[0]["status"] == "waiting", "to its own deadline"
    assert stack.http.delete(f"/v1/runs/{first['id']}").status_code < 300
    stack.status("signal", {"signal": "s-3", "n": 1}, "cancelled")


@pytest.mark.keyless  # with keys this machine is not called for an app
@pytest.mark.sdks("v")
def test_fetch_is_done_by_the_bus(stack: Stack, provider: str) -> None:
    stack.send("t/fetch", {"url": f"{provider}/echo"})
    got = stack.output("fetch", {"url": f"{provider}/echo"})
    assert got["status"] == (200 if stack.sdk == "v3.46.0" else 201), "3.46 reads the status under another name"
    assert (got["body"]["body"], got["body"]["headers"]["x-mine"]) == ('{"n":1}', "yes")


@pytest.mark.keyless  # with keys this machine is not called for an app
def test_a_model_is_asked_by_the_bus(stack: Stack, provider: str) -> None:
    url = f"{provider}/v1"
    stack.send("t/infer", {"url": url})
    assert stack.output("infer", {"url": url}) == "small says: hello, to Bearer secret"


@pytest.mark.keyless  # with keys this machine is not called for an app
def test_a_provider_that_fails_is_an_error_of_the_step(stack: Stack, provider: str) -> None:
    url = f"{provider}/broken"
    stack.send("t/infer", {"url": url})
    run = stack.ended("infer", {"url": url})[0]
    assert run["status"] == "failed"
    assert "500" in run["error"]["message"]


@pytest.mark.sdks("v")
def test_a_wrapped_call_of_a_model_is_a_step(stack: Stack) -> None:
    stack.send("t/wrap", {"n": 1})
    assert stack.output("wrap", {"n": 1}) == "hello!"


def test_a_state_too_large_for_a_call_is_fetched(stack: Stack) -> None:
    stack.send("t/large", {"n": 1})
    assert stack.output("large", {"n": 1}) == {"size": 6_000_000, "attempt": "done"}


@pytest.mark.both
def test_an_answer_that_is_streamed(stack: Stack) -> None:
    stack.send("s/steps", {"n": 1})
    run = stack.ended("steps", {"n": 1}, app="streaming")[0]
    assert (run["status"], run["output"]) == ("completed", "ab")
    assert {call["status"] for call in stack.calls(run["id"])} == {201}


@pytest.mark.sdks("v4")
def test_a_call_that_becomes_too_long_is_handed_over_without_a_step_twice(stack: Stack) -> None:
    stack.send("t/hand-over", {"n": 1})
    run = stack.ended("hand-over", {"n": 1})[0]
    assert (run["status"], run["output"]) == ("completed", [0, 1, 2, 3])
    assert [line["step"] for line in stack.lines(fn="hand-over", run=run["id"])] == [0, 1, 2]
    assert len(stack.calls(run["id"], 2)) > 1
    assert "StepPlanned" in stack.told({run["id"]}), "the last step is left to a call of its own"


@pytest.mark.sdks("v4")
def test_a_variant_of_an_experiment_is_chosen_once(stack: Stack) -> None:
    stack.send("t/experiment", {"n": 1})
    run = stack.ended("experiment", {"n": 1})[0]
    assert (run["status"], run["output"]) == ("completed", {"result": 2, "variant": "new"})
