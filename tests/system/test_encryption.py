"""Encryption: with BUS_CODEC nothing of data and results is readable in Redis, and all that reads them works as before."""

import base64
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import msgspec
import pytest

from stepstream import Concurrency, Context, EventData, NewEvent, On, Step, create_app
from stepstream.bus.encryption import sealing, users_codec
from stepstream.bus.encryption.sealing import CannotOpen
from stepstream.bus.errors import EventInvalid
from stepstream.bus.settings import Settings
from stepstream.bus.values.ids import partition_of
from stepstream.bus.wire import keys
from stepstream.checkpoint.actions.invoke import invoke
from stepstream.checkpoint.actions.rerun import rerun
from stepstream.checkpoint.client.runs import Runs
from stepstream.checkpoint.read.run.find import get
from stepstream.checkpoint.run.record import Run
from stepstream.checkpoint.run.resolve import hurry_failed
from stepstream.checkpoint.waits.signals import send_signal
from tests import codecs
from tests.support import Lab, eventually, fields

SECRET = "canary-7431"


@pytest.fixture
def settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A process of its own codec: one process has one, and the next test is to have another."""
    monkeypatch.setattr(users_codec, "_codec", None)
    monkeypatch.setattr(users_codec, "_named", None)
    return msgspec.structs.replace(settings, codec="tests.codecs:own")


def change_codec(monkeypatch: pytest.MonkeyPatch, codec: object) -> None:
    """Be another process for a while, with another codec, or none."""
    monkeypatch.setattr(users_codec, "_codec", codec)


async def everything(lab: Lab) -> str:
    """Return all that Redis holds, as text."""
    found: list[str] = []
    for key in sorted(await lab.admin.call("KEYS", keys.pattern())):
        kind = (await lab.admin.call("TYPE", key)).decode()
        read = {
            "string": ("GET", key), "hash": ("HGETALL", key), "set": ("SMEMBERS", key),
            "zset": ("ZRANGE", key, "0", "-1"), "list": ("LRANGE", key, "0", "-1"), "stream": ("XRANGE", key, "-", "+"),
        }[kind]  # fmt: skip
        found.append(f"{key.decode()}: {await lab.admin.call(*read)!r}")
    return "\n".join(found)


@asynccontextmanager
async def asking_of(lab: Lab) -> AsyncGenerator[httpx2.AsyncClient]:
    """Ask a site of the lab's settings."""
    site = create_app(configured=lab.settings)
    try:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=site), base_url="http://localhost") as http:
            yield http
    finally:
        await site.close()


async def told_of(lab: Lab, run: str, words: str, name: str = "sealed") -> Run:
    """Wait until a run says that it cannot be opened, or sealed, in these words."""

    async def look() -> Run | None:
        found = await get(lab.wire, run)
        is_told = found.error is not None and found.error.name == name and words in found.error.message
        return found if is_told else None

    found = await eventually(look, f"run {run} says: {words}", 20)
    assert found is not None
    return found


class Paid(EventData, name="card.paid"):
    token: str
    user: str


async def test_with_a_codec_no_data_and_no_result_is_readable_in_redis(lab: Lab) -> None:
    seen: list[Any] = []

    @lab.app.function("child")
    async def child(ctx: Context, step: Step) -> dict[str, str]:
        return {"got": ctx.event.data["token"]}

    @lab.app.function("pays", on=Paid, retries=0)
    async def pays(ctx: Context[Paid], step: Step) -> dict[str, object]:
        made = await step.run("one", lambda: {"token": f"made of {ctx.event.data.token}"})
        called = await step.invoke("call", child, {"token": SECRET})
        await step.send_event("tell", NewEvent("card.told", {"token": SECRET}))
        later = await step.wait_for_event("later", "card.later", match="data.user", timeout="1d")
        signal = await step.wait_for_signal("ok", f"ok/{ctx.event.data.user}", timeout="1d")
        await step.sleep("pause", 0.01)
        return {"made": made, "called": called, "later": later.data, "signal": signal}

    @lab.app.function("told", on=On("card.told", if_='event.data.token.startsWith("canary")'))
    async def told(ctx: Context, step: Step) -> object:
        return ctx.event.data

    @lab.app.function("ends", on="bus/function.finished")
    async def ends(ctx: Context, step: Step) -> None:
        seen.append(ctx.event.data)

    await lab.work()
    await lab.app.send(Paid(token=SECRET, user="u1"))
    run = await lab.first("test-pays")
    await lab.status(run, "waiting")
    await lab.app.send("card.later", {"user": "u1", "token": SECRET})

    async def signalled() -> bool:
        return await send_signal(lab.wire, "ok/u1", {"token": SECRET}) is not None

    await eventually(signalled, "the run waits for its signal")
    await lab.status(run, "completed")
    assert await Runs(lab.app).result(run) == {
        "made": {"token": f"made of {SECRET}"},
        "called": {"got": SECRET},
        "later": {"user": "u1", "token": SECRET},
        "signal": {"token": SECRET},
    }
    again = await rerun(lab.wire, run, "call")
    await lab.status(again, "waiting")
    await Runs(lab.app).cancel(again)
    data = msgspec.Raw(json.dumps({"token": f"new {SECRET}", "user": "u2"}).encode())
    other = await rerun(lab.wire, run, data=data)
    await lab.status(other, "waiting")
    await Runs(lab.app).cancel(other)
    direct = await invoke(lab.wire, "test-child", {"token": SECRET})
    assert await Runs(lab.app).result(direct) == {"got": SECRET}

    async def is_told() -> bool:
        return any(one["run_id"] == run for one in seen)

    await eventually(is_told, "its end is told")
    await lab.status(await lab.first("test-told"), "completed")
    end = next(one for one in seen if one["run_id"] == run)
    assert end["result"]["made"] == {"token": f"made of {SECRET}"}
    assert end["event"]["data"]["token"] == SECRET
    await lab.idle()
    found = await everything(lab)
    assert SECRET not in found
    assert base64.b64encode(SECRET.encode()).decode() not in found


async def test_a_run_that_cannot_be_opened_waits_and_uses_up_no_attempt_until_the_key_is_there(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []

    @lab.app.function("pays", on=Paid, retries=0)
    async def pays(ctx: Context[Paid], step: Step) -> str:
        called.append(ctx.event.data.token)
        return ctx.event.data.token

    change_codec(monkeypatch, codecs.without_the_key)
    await lab.work()
    await lab.app.send(Paid(token=SECRET, user="u1"))
    for codec, told in ((codecs.without_the_key, "cannot open what is encrypted"), (None, "set BUS_CODEC")):
        change_codec(monkeypatch, codec)
        run = await lab.first()
        await hurry_failed(lab.wire, "test-pays", {"sealed"}, 61_000, partition_of(run))
        waits = await told_of(lab, run, told)
        assert (waits.status, waits.attempt, waits.crashes) == ("waiting", 0, 0)
        assert "card.paid" in str(waits.error)
    assert called == []
    change_codec(monkeypatch, codecs.both)
    await lab.work()  # a deploy lets it be tried at once
    assert await lab.output() == SECRET
    assert called == [SECRET]


async def test_a_result_that_cannot_be_opened_is_no_error_that_a_handler_sees(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    caught: list[BaseException] = []
    is_sealed = anyio.Event()

    @lab.app.function("naps", on="nap", retries=0)
    async def naps(ctx: Context, step: Step) -> object:
        try:
            await is_sealed.wait()
            one = await step.run("one", lambda: {"token": SECRET})
            await step.wait_for_signal("go", "go", timeout="1d")
            return one
        except Exception as error:
            caught.append(error)
            raise

    await lab.work()
    change_codec(monkeypatch, None)
    await lab.send("nap")
    change_codec(monkeypatch, codecs.own)
    is_sealed.set()
    run = await lab.status(await lab.first(), "waiting")
    change_codec(monkeypatch, codecs.new)
    await send_signal(lab.wire, "go", {"token": SECRET})

    assert (await told_of(lab, run.id, "step 'one'")).status == "waiting"
    assert caught == []
    change_codec(monkeypatch, codecs.both)
    await hurry_failed(lab.wire, "test-naps", {"sealed"}, 61_000, partition_of(run.id))
    assert await lab.output() == {"token": SECRET}


async def test_what_was_sealed_with_the_key_before_is_opened_and_what_comes_is_sealed_with_the_new_one(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    @lab.app.function("pays", on=Paid)
    async def pays(ctx: Context[Paid], step: Step) -> str:
        return ctx.event.data.token

    change_codec(monkeypatch, codecs.without_the_key)
    await lab.work()
    await lab.app.send(Paid(token=SECRET, user="u1"))
    run = await told_of(lab, await lab.first(), "cannot open")
    change_codec(monkeypatch, codecs.both)
    await hurry_failed(lab.wire, "test-pays", {"sealed"}, 61_000, partition_of(run.id))
    assert await lab.output() == SECRET
    change_codec(monkeypatch, codecs.new)
    run = await lab.one()
    assert sealing.opened(bytes(run.output or b"")) == json.dumps(SECRET).encode()
    with pytest.raises(CannotOpen, match=r"the codec .* cannot open"):
        sealing.opened(bytes(run.event or b""))


async def test_an_event_on_whose_sealed_data_a_condition_decides_waits_for_the_key(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    @lab.app.function("pays", on=On(Paid, if_='event.data.user == "u1"'))
    async def pays(ctx: Context[Paid], step: Step) -> str:
        return ctx.event.data.token

    @lab.app.function(
        "limited", on=On(Paid, if_='event.data.user == "u1"'), concurrency=Concurrency(1, key="event.data.user")
    )
    async def limited(ctx: Context[Paid], step: Step) -> str:
        return ctx.event.data.token

    change_codec(monkeypatch, codecs.without_the_key)
    await lab.work()
    await lab.app.send(Paid(token=SECRET, user="u1"))

    async def is_told() -> bool:
        told = [one for one in lab.notices if "cannot open what is encrypted" in str(one.fields)]
        return len({one.event for one in told}) == 2

    await eventually(is_told, "both functions say what they cannot open", 5)
    assert await lab.runs() == []
    change_codec(monkeypatch, codecs.both)
    assert {run.status for run in await lab.ended(2)} == {"completed"}


@pytest.mark.parametrize(
    ("codec", "words"),
    [(None, "this process has no BUS_CODEC"), (codecs.new, "not with a key of the codec here"), (codecs.own, SECRET)],
)
async def test_a_site_shows_what_it_can_open_and_says_of_the_rest_that_it_is_encrypted(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, codec: object, words: str
) -> None:
    @lab.app.function("pays", on=Paid, retries=0)
    async def pays(ctx: Context[Paid], step: Step) -> object:
        return await step.run("one", lambda: {"made": ctx.event.data.token})

    await lab.work()
    [stored] = await lab.app.publish([Paid(token=SECRET, user="u1")])
    run = await lab.one()
    change_codec(monkeypatch, codec)
    async with asking_of(lab) as http:
        for path in (
            f"/v1/runs/{run.id}", f"/v1/runs/{run.id}/steps?fields=id,data", f"/v1/events/{stored.id}", f"/runs/{run.id}",
            f"/events/{stored.id}",
        ):  # fmt: skip
            answer = await http.get(path)
            assert answer.status_code == 200, (path, answer.text)
            assert words in answer.text, (path, answer.text)
            assert "$sealed" not in answer.text, path
        found = await http.get("/v1/runs", params={"where": f'event.data.token == "{SECRET}"'})
        assert (run.id in found.text) == (words == SECRET)


async def test_nobody_stores_data_that_says_of_itself_that_it_is_encrypted(lab: Lab) -> None:
    mark = {"a": {"b": SECRET, "$sealed": "aGk="}}

    @lab.app.function("returns", on="asked", retries=0)
    async def returns(ctx: Context, step: Step) -> object:
        return mark if ctx.event.data["of"] == "run" else await step.run("one", lambda: mark)

    await lab.work()
    with pytest.raises(EventInvalid, match=r"data: has a field \$sealed"):
        await lab.send("asked", mark)
    with pytest.raises(EventInvalid, match=r"\$sealed"):
        await invoke(lab.wire, "test-returns", mark)
    await lab.send("asked", {"of": "run"})
    await lab.send("asked", {"of": "step"})
    for run in await lab.ended(2):
        assert run.status == "failed"
        assert run.error is not None
        assert "$sealed" in run.error.message
    async with asking_of(lab) as http:
        for data in ('{"$sealed":"aGk="}', '{"$sealed" : "aGk="}', '{"a":{"\\u0024sealed":"aGk="}}'):
            answer = await http.post("/e/any", content=f'{{"name":"asked","data":{data}}}')
            assert answer.status_code == 400
            assert "$sealed" in answer.text
            page = await http.get(f"/runs/{run.id}")
            answer = await http.post(f"/runs/{run.id}/rerun", data={**fields(page.text), "data": data})
            assert answer.status_code == 400, answer.text
            assert "$sealed" in answer.text
    assert SECRET not in await everything(lab)


@pytest.mark.parametrize("of", ["step", "run"])
async def test_a_run_whose_result_the_codec_fails_at_waits_and_uses_up_no_attempt(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    @lab.app.function("returns", on="asked", retries=0)
    async def returns(ctx: Context, step: Step) -> str:
        made = await step.run("one", lambda: "unlucky" if of == "step" else "one")
        return made if of == "step" else "unlucky"

    change_codec(monkeypatch, codecs.failing)
    await lab.work()
    await lab.send("asked")

    run = await told_of(lab, await lab.first(), "no answer from the store of keys", "not_sealed")
    assert (run.status, run.attempt, run.crashes) == ("waiting", 0, 0)
    change_codec(monkeypatch, codecs.own)
    await lab.work()  # a deploy lets it be tried at once
    assert await lab.output() == "unlucky"
