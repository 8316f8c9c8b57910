"""Encryption: what commands and SDKs' questions show, with the codec and without it, and of processes that are mixed."""

import json
import os

import anyio.to_thread
import msgspec
import pytest

from stepstream import Context, Step
from stepstream.bus.encryption import users_codec
from stepstream.bus.settings import Settings
from stepstream.checkpoint.waits.signals import send_signal
from tests import codecs, forks
from tests.support import Lab, eventually
from tests.system.test_encryption import SECRET, asking_of, change_codec

WITHOUT = "this process has no BUS_CODEC"


@pytest.fixture
def settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A process of its own codec: one process has one, and the next test is to have another."""
    monkeypatch.setattr(users_codec, "_codec", None)
    monkeypatch.setattr(users_codec, "_named", None)
    return msgspec.structs.replace(settings, codec="tests.codecs:own")


@pytest.mark.parametrize(("codec", "words"), [("", WITHOUT), ("tests.codecs:own", SECRET)])
async def test_each_command_that_shows_data_opens_it_or_says_that_it_is_encrypted(
    lab: Lab, codec: str, words: str
) -> None:
    @lab.app.function("pays", on="card/paid", retries=0)
    async def pays(ctx: Context, step: Step) -> object:
        return await step.run("one", lambda: {"made": ctx.event.data["token"]})

    await lab.work()
    stored = await lab.send("card/paid", {"token": SECRET})
    run = await lab.one()
    environ = {**os.environ, "BUS_REDIS_URL": lab.settings.redis_url, "BUS_CODEC": codec}

    def asked(*command: str) -> str:
        done = forks.bus(*command, env=environ)
        assert done.returncode == 0, done.stderr
        return done.stdout

    for command in (
        ("event", stored.id), ("event", stored.id, "--json"), ("events",), ("events", "--json"), ("run", run.id),
        ("run", run.id, "--json"),
    ):  # fmt: skip
        told = await anyio.to_thread.run_sync(asked, *command)
        assert words in told, (command, told)
        assert "$sealed" not in told, command


@pytest.mark.parametrize(("codec", "words"), [(None, WITHOUT), (codecs.own, SECRET)])
async def test_an_sdks_questions_are_answered_by_a_site_with_and_without_the_codec(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, codec: object, words: str
) -> None:
    @lab.app.function("pays", on="card/paid", retries=0)
    async def pays(ctx: Context, step: Step) -> object:
        return {"made": ctx.event.data["token"]}

    @lab.app.function("told", on="bus/function.finished")
    async def told(ctx: Context, step: Step) -> None: ...

    await lab.work()
    stored = await lab.send("card/paid", {"token": SECRET})
    runs = await lab.ended(2)
    change_codec(monkeypatch, codec)
    async with asking_of(lab) as http:
        for run in runs:
            query = f'{{runTrigger(runID: "{run.id}") {{payloads}}}}'
            answer = (await http.post("/v0/gql", json={"query": query})).json()
            assert "errors" not in answer, answer
            assert words in answer["data"]["runTrigger"]["payloads"][0]
        answer = (await http.post("/v0/gql", json={"query": f'{{eventV2(id: "{stored.id}") {{raw}}}}'})).json()
        assert "errors" not in answer, answer
        assert words in answer["data"]["eventV2"]["raw"]


async def test_an_event_that_was_published_in_the_open_answers_a_wait_and_is_told_to_an_sdk(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    @lab.app.function("waits", on="begin", retries=0)
    async def waits(ctx: Context, step: Step) -> object:
        came = await step.wait_for_event("came", "later", timeout="1d")
        await step.wait_for_signal("go", "go", timeout="1d")
        return came.data

    await lab.work()
    await lab.send("begin")
    run = await lab.status(await lab.first(), "waiting")
    await lab.store("later", {"token": SECRET})  # as by a process without the codec
    async with asking_of(lab) as http:

        async def answered() -> str:
            answer = await http.get(f"/v0/runs/{run.id}/actions")
            assert answer.status_code == 200, answer.text
            return answer.text if SECRET in answer.text else ""

        told = json.loads(await eventually(answered, "the step is told"))
        assert [one["data"] for one in told.values() if one] == [{"token": SECRET}]

    async def signalled() -> bool:
        return await send_signal(lab.wire, "go", None) is not None

    await eventually(signalled, "the run waits for its signal")
    assert await lab.output() == {"token": SECRET}


@pytest.mark.parametrize("where", ['output != "x"', "event.data != null", 'event.data.token != "x"'])
async def test_a_condition_on_what_cannot_be_opened_is_true_of_no_run_and_that_is_told(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    @lab.app.function("pays", on="card/paid", retries=0)
    async def pays(ctx: Context, step: Step) -> str:
        return "done"

    await lab.work()
    await lab.send("card/paid", {"token": SECRET})
    run = await lab.one()
    for codec, found in ((codecs.own, ([run.id], 0)), (None, ([], 1)), (codecs.new, ([], 1))):
        change_codec(monkeypatch, codec)
        async with asking_of(lab) as http:
            told = (await http.get("/v1/runs", params={"where": where})).json()
            assert ([one["id"] for one in told["data"]], told["not_evaluated"]) == found
