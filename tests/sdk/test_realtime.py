"""Realtime with the official SDKs: applications publish and listen, in their own words, by real processes."""

import json
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.sync.client import connect

from stepstream.checkpoint.live.messages import publish
from tests.sdk.sdks import HERE, NODE_SDKS, home, missing
from tests.sdk.stack import AppProcess, Stack

pytestmark = pytest.mark.sdk
WITHIN_S = 30.0
SIGNING, EVENT_KEY = f"signkey-test-{'ab' * 32}", "event-key-of-tests"


class RealtimeApp(AppProcess):
    """The application that publishes and listens."""

    @property
    def urls(self) -> list[str]:
        return [self.url]

    def command(self) -> list[str]:
        if self.sdk in NODE_SDKS:
            file = str(HERE / "js" / "realtime.mjs")
            return ["node", "--experimental-websocket", file, str(home(self.sdk)), str(self.port)]
        uvicorn = str(home(self.sdk) / "bin" / "uvicorn")
        return [uvicorn, "realtime_app:app", "--app-dir", str(HERE / "py"), "--port", str(self.port)]


class Realtime(Stack):
    """All around it, and what it does when it is asked."""

    def __init__(self, sdk: str, folder: Path, environ: dict[str, str], app: dict[str, str]) -> None:
        super().__init__(sdk, folder, environ)
        base = {"INNGEST_BASE_URL": self.url} if app else {}
        self.app = RealtimeApp(sdk, folder, self.url, {**app, **base})
        self.opened = ExitStack()

    def stop(self) -> None:
        """End all of it."""
        self.opened.close()
        super().stop()

    def ask(self, what: str, **asked: Any) -> Any:
        answer = httpx2.post(f"http://127.0.0.1:{self.app.port}/{what}", json=asked, timeout=WITHIN_S)
        assert answer.status_code == 200, (answer.text, self.tail())
        return answer.json()

    def ear(self, channel: str, *topics: str) -> "Ear | PlainEar":
        return (PlainEar if self.is_python else Ear)(self, channel, topics)

    def plain(self, channel: str, *topics: str) -> "PlainEar":
        return PlainEar(self, channel, topics)

    def tell(self, channel: str, topic: str, data: bytes) -> None:
        """Publish as a Python function does."""
        self._loop.run(publish(self._wire, channel, topic, data))


class Ear:
    """Who listens by the SDK's own code: what it has heard."""

    def __init__(self, stack: Realtime, channel: str, topics: tuple[str, ...]) -> None:
        self._stack = stack
        self._id = stack.ask("listen", channel=channel, topics=topics)["id"]

    def heard(self, count: int, closed: bool = False) -> list[dict[str, Any]]:
        return self._stack.ask("heard", id=self._id, count=count, closed=closed)


class PlainEar:
    """Who listens with a token of the SDK, and without its code."""

    def __init__(self, stack: Realtime, channel: str, topics: tuple[str, ...]) -> None:
        key = stack.ask("token", channel=channel, topics=topics)["key"]
        url = f"{stack.url.replace('http', 'ws')}/v1/realtime/connect?token={key}"
        self._socket = stack.opened.enter_context(connect(url))
        self._heard: list[dict[str, Any]] = []

    def heard(self, count: int) -> list[dict[str, Any]]:
        while len(self._heard) < count:
            message = json.loads(self._socket.recv(timeout=WITHIN_S))
            self._heard.append({**message, "runId": message.get("run_id")})
        return self._heard


@pytest.fixture
def stack(sdk: str, _stacks: dict[str, Stack], tmp_path_factory: pytest.TempPathFactory) -> Realtime:
    if why := missing(sdk):
        pytest.skip(why)
    key = f"{sdk} realtime"
    if key not in _stacks:
        _stacks[key] = Realtime(sdk, tmp_path_factory.mktemp("realtime"), {}, {})
        _stacks[key].start()
    found = _stacks[key]
    assert isinstance(found, Realtime)
    return found


@pytest.fixture
def keyed(sdk: str, tmp_path: Path) -> Generator[Realtime]:
    """In keys mode, without a worker."""
    if why := missing(sdk):
        pytest.skip(why)
    server = {"BUS_SIGNING_KEY": SIGNING, "BUS_EVENT_KEYS": EVENT_KEY}
    app = {"INNGEST_DEV": "0", "INNGEST_SIGNING_KEY": SIGNING, "INNGEST_EVENT_KEY": EVENT_KEY}
    found = Realtime(sdk, tmp_path, server, app)
    try:
        found.valkey.start()
        found.start_site()
        found.app.start()
        yield found
    finally:
        found.stop()


def test_what_a_function_publishes_is_heard_as_it_is_told_and_once(stack: Realtime) -> None:
    """A word is from behind the run's: so nothing of it comes twice in between."""
    ear = stack.ear("shop of é/1", "state")
    stack.send("r/tell", {"channel": "shop of é/1"})
    run = stack.ended("tell", {"channel": "shop of é/1"}, app="realtime")[0]
    assert (run["status"], run["output"]) == ("completed", "told"), stack.tail()
    stack.tell("shop of é/1", "state", b'"last"')
    second = {"at": "in a step"} if stack.is_python else "in a step"
    heard = ear.heard(3)
    assert [one["data"] for one in heard] == [{"at": "begun", "text": "Zürich ✓"}, second, "last"]
    assert {(one["kind"], one["channel"], one["topic"]) for one in heard} == {("data", "shop of é/1", "state")}
    if not stack.is_python:  # it names no run
        assert [one.get("runId") for one in heard] == [run["id"], run["id"], None]


@pytest.mark.sdks("v")
def test_a_stream_comes_in_pieces_between_its_start_and_its_end(stack: Realtime) -> None:
    """The SDK's own code that listens fails at the start of a stream: it uses one before it has made it."""
    ear = stack.plain("of a stream", "text")
    stack.send("r/tell", {"channel": "of a stream", "streams": True})
    run = stack.ended("tell", {"channel": "of a stream"}, app="realtime")[0]
    assert run["status"] == "completed", stack.tail()
    count = 3
    while (heard := ear.heard(count))[-1]["kind"] != "datastream-end":
        count += 1
    stream = heard[0]["data"]
    assert heard[0]["kind"] == "datastream-start"
    assert "".join(one["data"] for one in heard[1:-1]) == "abü"
    assert {(one["kind"], one["stream_id"]) for one in heard[1:-1]} == {("chunk", stream)}
    assert heard[-1]["data"] == stream
    assert {one["runId"] for one in heard} == {run["id"]}


def test_an_application_publishes_outside_of_its_functions(stack: Realtime) -> None:
    ear = stack.ear("outside", "state")
    stack.ask("publish", channel="outside", topic="text", data={"n": 1})
    stack.ask("publish", channel="elsewhere", topic="state", data={"n": 2})
    stack.ask("publish", channel="outside", topic="state", data={"n": 3})
    assert [one["data"] for one in ear.heard(1)] == [{"n": 3}]
    with httpx2.stream("GET", f"{stack.url}/v1/live/outside?after=0&topic=text", timeout=WITHIN_S) as events:
        lines = (line.partition(": ") for line in events.iter_lines())
        told = next(json.loads(text) for name, _, text in lines if name == "data")
    assert (told["topic"], told["data"]) == ("text", {"n": 1})


@pytest.mark.sdks("v4")
def test_a_tee_comes_to_who_was_redirected_as_it_was_sent(stack: Realtime) -> None:
    url = stack.ask("redirect", channel="of a run")["url"]
    sent = ['event: inngest.stream\ndata: {"data"', ':"a"}\n\nevent: inngest.commit\ndata: {}\n\n']
    with httpx2.stream("GET", url, timeout=WITHIN_S) as events:
        assert events.status_code == 200
        stack.ask("tee", channel="of a run", pieces=sent)
        text = ""
        for piece in events.iter_text():
            text += piece
            if text.endswith(sent[1]):
                break
    assert text.removeprefix("retry: 1000\n\n") == "".join(sent)


def test_in_keys_mode_an_application_publishes_with_its_key_and_a_page_listens_with_its_token(keyed: Realtime) -> None:
    path = "/v1/realtime/publish?channel=c&topic=state"
    assert keyed.http.post(path, content="1").status_code == 401
    ear = keyed.ear("c", "state")
    keyed.ask("publish", channel="c", topic="state", data={"n": 1})
    assert [one["data"] for one in ear.heard(1)] == [{"n": 1}]
    if isinstance(ear, Ear):  # what it listens to ends with the server, and the SDK hears so
        assert keyed.site is not None
        keyed.site.terminate()
        assert len(ear.heard(1, closed=True)) == 1
