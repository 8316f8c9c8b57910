"""Keys mode and applications behind HTTP: calls are signed, other keys run nothing, and not every address is called."""

import json
from typing import Any

import msgspec
import pytest
import redis
from starlette.responses import Response
from starlette.testclient import TestClient

from stepstream import create_app
from stepstream.bus.settings import Settings
from stepstream.bus.trust.signing import HEADER, SignatureInvalid, verify
from stepstream.bus.values.clock import now_ms
from stepstream.bus.wire import keys
from stepstream.checkpoint.apps import app_of, put
from stepstream.consumers.remote.calls.client import Client, Unauthorized
from tests.scripted_app import Told, op, ops, returned, serving
from tests.support import Lab, eventually

KEY, OLD, FOREIGN = (f"signkey-test-{digit * 64}" for digit in "abc")
EVENT = {"naïve": "é😀\u2028", "f": 1.0, "small": 1e-7, "big": 12345678901234567890, "z": {"b": 1, "a": []}}


def keyed(settings: Settings, key: str = KEY, fallback: str = "", hosts: tuple[str, ...] = ("localhost",)) -> Settings:
    more: dict[str, Any] = {"signing_key": key, "signing_key_fallback": fallback, "app_hosts": hosts}
    return msgspec.structs.replace(settings, **more)


class Guarded:
    """What an SDK does: it runs a call only when its key has signed it."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.refused = 0
        self.ran = 0

    def __call__(self, told: Told) -> Response:
        try:
            verify(told.raw, told.headers.get(HEADER), [self.key], now_ms())
        except SignatureInvalid:
            self.refused += 1
            return Response('{"message":"Unauthorized"}', 401, {"content-type": "application/json"})
        self.ran += 1
        if not told.has("a"):
            return ops(op("StepRun", "a", data=told.body["event"]["data"]))
        return returned(told.value("a")["data"])


@pytest.mark.parametrize("data", [EVENT, {"text": "x" * 300_000}])
async def test_calls_are_signed_and_numbers_are_not_rounded(lab: Lab, data: dict[str, Any]) -> None:
    lab.settings = keyed(lab.settings)
    script = Guarded(KEY)
    async with serving(script) as app:
        lab.app = app.bus("order/paid")
        await lab.work()
        await lab.send("order/paid", data)
        assert await lab.output() == data
    assert (script.ran, script.refused) == (2, 0)


async def test_without_keys_nothing_is_signed(lab: Lab) -> None:
    async with serving(lambda told: returned(HEADER in told.headers)) as app:
        lab.app = app.bus("order/paid")
        await lab.work()
        await lab.send("order/paid")
        assert await lab.output() is False


async def test_an_app_that_has_the_old_key_still_is_called_with_that(lab: Lab) -> None:
    lab.settings = keyed(lab.settings, fallback=OLD)
    script = Guarded(OLD)
    async with serving(script) as app:
        lab.app = app.bus("order/paid")
        await lab.work()
        await lab.send("order/paid", EVENT)
        assert await lab.output() == EVENT
    assert (script.ran, script.refused) == (2, 2)


async def test_an_app_with_another_key_runs_nothing_until_it_has_ours(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepstream.consumers.remote.calls.client.Client.down_ms", lambda _: 50)
    lab.settings = keyed(lab.settings)
    script = Guarded(FOREIGN)
    async with serving(script) as app:
        lab.app = bus = app.bus("order/paid", retries=0)
        await put(lab.wire, "shop", lambda _: bus.app)
        await lab.work()
        await lab.send("order/paid", EVENT)

        async def told() -> bool:
            runs = await lab.runs()
            return bool(runs) and "BUS_SIGNING_KEY" in (await lab.hash(runs[0])).get("error", "")

        await eventually(told, "the run says that the app has another key")
        noted = await app_of(lab.wire, "shop")
        assert noted is not None
        assert noted.error_code == "unauthorized"
        assert "answered 401" in noted.error
        for secret in (KEY, FOREIGN):
            assert secret[13:] not in noted.error
        assert script.ran == 0
        script.key = KEY
        assert await lab.output() == EVENT


async def test_a_wrong_clock_is_like_a_wrong_key(settings: Settings) -> None:
    async with serving(Guarded(KEY)) as app:
        body = json.dumps({"ctx": {}, "steps": {}, "event": {"data": {}}}).encode()
        url = f"{app.url}?fnId=shop-f&stepId=step"
        for late, is_refused in ((0, False), (290_000, False), (310_000, True), (-310_000, True)):
            caller = Client(keyed(settings), lambda late=late: now_ms() + late)
            try:
                if is_refused:
                    with pytest.raises(Unauthorized, match="within five minutes"):
                        await caller.call(url, body, {"content-type": "application/json"})
                else:
                    assert (await caller.call(url, body, {"content-type": "application/json"})).status == 206
            finally:
                await caller.close()


async def test_an_app_that_wants_signatures_where_there_are_no_keys_is_told_the_way(settings: Settings) -> None:
    async with serving(Guarded(KEY)) as app:
        caller = Client(settings)
        with pytest.raises(Unauthorized, match="set INNGEST_DEV there, or BUS_SIGNING_KEY here"):
            await caller.call(f"{app.url}?fnId=shop-f&stepId=step", b'{"ctx":{},"steps":{}}', {})
        await caller.close()


async def test_an_app_at_an_address_that_may_not_be_called_waits_and_says_why(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepstream.consumers.remote.calls.client.Client.down_ms", lambda _: 50)
    lab.settings = keyed(lab.settings, hosts=())
    async with serving(Guarded(KEY)) as app:
        lab.app = app.bus("order/paid")
        await lab.work()
        await lab.send("order/paid")

        async def told() -> bool:
            runs = await lab.runs()
            return bool(runs) and "add localhost to BUS_APP_HOSTS" in (await lab.hash(runs[0])).get("error", "")

        await eventually(told, "the run says that the address may not be called")
        assert app.calls == []


async def test_what_an_app_lets_us_fetch_is_not_on_this_machine_either(lab: Lab) -> None:
    lab.settings = keyed(lab.settings)
    inside: list[str] = []

    def script(told: Told) -> Response:
        if not told.steps:
            asked = {"url": f"{app.url}?fnId=inside&stepId=x", "method": "POST", "body": '{"ctx":{},"steps":{}}'}
            return ops(op("Gateway", "get", opts=asked))
        inside.extend(one.function for one in app.calls)
        return returned(next(iter(told.steps.values())))

    async with serving(script) as app:
        lab.app = app.bus("order/paid", retries=0)
        await lab.work()
        await lab.send("order/paid")
        assert "this machine; a bus with keys does not call that for an app" in json.dumps(await lab.output())
    assert "inside" not in inside


@pytest.mark.parametrize(
    ("hosts", "place", "told"),
    [
        ((), "http://127.0.0.1:4100/api/inngest", "add localhost to BUS_APP_HOSTS"),
        (("localhost",), "http://localhost:4100/api/inngest", ""),
        (("localhost",), "http://169.254.169.254/api/inngest", "never called"),
        (("0.0.0.0/0", "::/0"), "http://[fe80::1]:4100/api/inngest", "never called"),
        (("*.example",), "http://10.0.0.1/api/inngest", "not among BUS_APP_HOSTS"),
        (("*.example",), "http://evil.test/api/inngest", "not among BUS_APP_HOSTS"),
        (("10.0.0.0/8",), "http://10.0.0.1/api/inngest", ""),
        ((), "http://10.0.0.1/api/inngest", ""),
    ],
)
@pytest.mark.parametrize("is_of_function", [False, True])
def test_an_app_is_registered_only_at_an_address_that_may_be_called(
    settings: Settings, store: "redis.Redis", hosts: tuple[str, ...], place: str, told: str, *, is_of_function: bool
) -> None:
    safe = "http://localhost:4100/api/inngest" if "localhost" in hosts else "http://10.0.0.1/api/inngest"
    if is_of_function and told and hosts == ("*.example",):
        safe = place  # nothing else would be allowed either: names are not looked up in a test
    config = {
        "id": "shop-f", "name": "f", "triggers": [{"event": "a"}],
        "steps": {"step": {"id": "step", "runtime": {"type": "http", "url": f"{place}?fnId=shop-f&stepId=step"}}},
    }  # fmt: skip
    asked = {"url": safe if is_of_function else place, "appName": "shop", "sdk": "js:v4.24.0", "functions": [config]}
    with TestClient(create_app(configured=keyed(settings, hosts=hosts)), base_url="http://localhost") as http:
        answer = http.post("/fn/register", json=asked, headers={"authorization": f"Bearer {KEY}"})
        assert answer.status_code == (400 if told else 200)
        assert told in answer.json().get("error", "")
        assert answer.json().get("code", "") == ("url_refused" if told else "")
        assert http.post("/fn/register", json=asked, headers={"authorization": f"Bearer {FOREIGN}"}).status_code == 401
    assert bool(store.hgetall(keys.functions())) is not bool(told)
