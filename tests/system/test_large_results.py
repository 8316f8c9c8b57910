"""Large results: in the store before what refers to them, read back wherever they are used, never lost or guessed."""

import asyncio
import base64
import os
import shutil
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import msgspec
import pytest

from stepstream import Context, NewEvent, Step, create_app
from stepstream.bus.blobs.folder import Folder
from stepstream.bus.encryption import users_codec
from stepstream.bus.errors import BlobGone, ConfigError, EventInvalid
from stepstream.bus.settings import Settings
from stepstream.bus.values.ids import partition_of
from stepstream.bus.wire import keys
from stepstream.checkpoint.actions.rerun import rerun
from stepstream.checkpoint.blobs.keeping import key_of, owner_of
from stepstream.checkpoint.blobs.left_over import looked_through
from stepstream.checkpoint.client.runs import Runs
from stepstream.checkpoint.read.run.find import get
from stepstream.checkpoint.read.run.recording import record
from stepstream.checkpoint.run.record import Run
from stepstream.checkpoint.run.resolve import hurry_failed
from stepstream.checkpoint.waits.signals import send_signal
from stepstream.consumers import executor
from stepstream.consumers.relay.courier import AT_ONCE as COURIERS
from stepstream.consumers.worker import Worker
from tests import codecs, forks
from tests.support import Lab, eventually, free_port, running

LARGE = "canary " * 20_000
ENDS = "async.data.function_id == 'test-makes'"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


@pytest.fixture
def settings(settings: Settings, folder: Path) -> Settings:
    return msgspec.structs.replace(settings, blobs_url=f"file://{quote(str(folder))}", blobs_above=4_096)


def blobs_of(folder: Path, run: str) -> list[Path]:
    """Return the blobs of a run."""
    return [path for path in folder.rglob("*") if path.is_file() and run in path.parts]


async def forget_run(lab: Lab, run: Run) -> None:
    """Let the time of a run be over, as BUS_KEEP does."""
    where = keys.runs(run.function, run.status, run.id)
    await lab.admin.call("UNLINK", keys.run(run.function, run.id), keys.steps(run.function, run.id))
    await lab.admin.call("ZREM", where, run.id)


async def everything(lab: Lab) -> str:
    found = [f"{key!r} {await lab.admin.call('DUMP', key)!r}" for key in await lab.admin.call("KEYS", keys.pattern())]
    return "\n".join(found)


async def told_of(lab: Lab, run: str, code: str) -> Run:
    """Wait until a run says that it waits for this."""

    async def look() -> Run | None:
        found = await get(lab.wire, run)
        return found if found.error is not None and found.error.name == code else None

    found = await eventually(look, f"run {run} waits for {code}", 20)
    assert found is not None
    return found


@asynccontextmanager
async def asking_of(lab: Lab, settings: Settings | None = None) -> AsyncGenerator[httpx2.AsyncClient]:
    site = create_app(configured=settings or lab.settings)
    try:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=site), base_url="http://localhost") as http:
            yield http
    finally:
        await site.close()


async def test_a_large_result_is_in_the_store_and_every_reader_has_it_whole(lab: Lab, folder: Path) -> None:
    seen: list[object] = []

    @lab.app.function("child")
    async def child(ctx: Context, step: Step) -> str:
        return LARGE

    @lab.app.function("makes", on="asked", retries=0)
    async def makes(ctx: Context, step: Step) -> list[str]:
        one = await step.run("one", lambda: LARGE)
        small = await step.run("small", lambda: "small")
        called = await step.invoke("call", child)
        told = await step.wait_for_signal("go", "go", timeout="1d")
        return [one, small, called, told]

    @lab.app.function("ends", on="bus/function.finished")
    async def ends(ctx: Context, step: Step) -> None:
        if ctx.event.data["function_id"] == "test-makes":
            seen.append(ctx.event.data["result"])

    await lab.work()
    await lab.send("asked")
    run = await lab.first("test-makes")

    async def signalled() -> bool:
        return await send_signal(lab.wire, "go", LARGE) is not None

    await eventually(signalled, "the run waits")
    whole = [LARGE, "small", LARGE, LARGE]
    assert await Runs(lab.app).result(run) == whole
    assert len(await everything(lab)) < 100_000
    assert "canary canary" not in await everything(lab)
    assert len(blobs_of(folder, run)) == 2  # the same data, from a step, a call and a signal, is one blob
    assert msgspec.json.decode((await Runs(lab.app).get(run)).output or b"") == whole
    views = {one.id: one.result for one in await Runs(lab.app).steps(run)}
    assert views["one"] == views["call"] == views["go"] == LARGE

    async def is_told() -> bool:
        return bool(seen)

    await eventually(is_told, "who listens for its end has seen its result")
    assert seen == [whole]
    recorded = await record(lab.wire, run)
    assert msgspec.json.decode(recorded.steps["one"].data) == LARGE
    async with asking_of(lab) as http:
        assert LARGE in (await http.get(f"/v1/runs/{run}")).text
        assert LARGE in (await http.get(f"/v1/runs/{run}/steps?fields=id,data")).text
        page = (await http.get(f"/runs/{run}")).text
        assert "in the store of large results" in page
        assert "$blob" not in page


async def test_an_awaited_end_that_is_large_itself_has_the_result_in_it_whole(lab: Lab, folder: Path) -> None:
    @lab.app.function("makes", on="asked")
    async def makes(ctx: Context, step: Step) -> str:
        return LARGE

    @lab.app.function("waits", on="wait")
    async def waits(ctx: Context, step: Step) -> list[object]:
        ended = await step.wait_for_event("ended", "bus/function.finished", timeout="1d", if_=ENDS)
        return [ended.data["result"], ended.data["event"]["data"]["large"]]

    @lab.app.function("hears", on="bus/function.finished")
    async def hears(ctx: Context, step: Step) -> None: ...

    await lab.work()
    await lab.send("wait")
    run = await lab.status(await lab.first("test-waits"), "waiting")
    await lab.send("asked", {"large": "x" * 5_000})
    done = await lab.status(run.id, "completed")
    assert await Runs(lab.app).result(done.id) == [LARGE, "x" * 5_000]
    assert all(b"$blob" not in path.read_bytes() for path in blobs_of(folder, run.id))


async def test_a_signal_that_the_store_does_not_take_is_no_error_of_the_step_that_sends_it(
    lab: Lab, folder: Path
) -> None:
    caught: list[BaseException] = []

    @lab.app.function("waits", on="wait")
    async def waits(ctx: Context, step: Step) -> int:
        return len(await step.wait_for_signal("go", "go", timeout="1d"))

    @lab.app.function("tells", on="tell", retries=0)
    async def tells(ctx: Context, step: Step) -> None:
        try:
            await step.send_signal("send", "go", LARGE)
        except Exception as error:
            caught.append(error)
            raise

    await lab.work()
    await lab.send("wait")
    waiting = await lab.status(await lab.first("test-waits"), "waiting")
    folder.write_text("a file where the folder is to be")
    await lab.send("tell")
    run = await told_of(lab, await lab.first("test-tells"), "blobs_unfit")
    assert (run.status, run.attempt, caught) == ("waiting", 0, [])
    folder.unlink()
    await hurry_failed(lab.wire, "test-tells", {"blobs_unfit"}, 61_000, partition_of(run.id))
    assert await Runs(lab.app).result(waiting.id) == len(LARGE)


async def test_graphql_and_the_runs_and_data_of_an_event_have_results_whole(lab: Lab) -> None:
    @lab.app.function("makes", on="asked")
    async def makes(ctx: Context, step: Step) -> str:
        return await step.run("one", lambda: LARGE)

    @lab.app.function("hears", on="bus/function.finished")
    async def hears(ctx: Context, step: Step) -> None: ...

    await lab.work()
    event = await lab.send("asked")
    run = await lab.status(await lab.first("test-makes"), "completed")
    heard = await lab.first("test-hears")
    async with asking_of(lab) as http:

        async def asked(query: str) -> str:
            return (await http.post("/v0/gql", json={"query": f"{{ {query} }}"})).text

        for of, step in ((run.id, ""), (run.id, "one")):
            output = base64.urlsafe_b64encode(msgspec.json.encode([of, step])).decode()
            assert LARGE in await asked(f'runTraceSpanOutputByID(outputID: "{output}") {{ data }}')
        assert LARGE in await asked(f'run(runID: "{run.id}") {{ output }}')
        assert LARGE in await asked(f'runTrigger(runID: "{heard}") {{ payloads }}')
        assert LARGE in await asked(f'eventV2(id: "{run.id}") {{ raw }}')
        assert LARGE in (await http.get(f"/v1/events/{event.id}/runs")).text
        assert LARGE in (await http.get(f"/v1/events/{run.id}")).text


async def test_a_search_says_of_how_many_runs_it_does_not_know_the_result(lab: Lab) -> None:
    @lab.app.function("makes", on="asked")
    async def makes(ctx: Context, step: Step) -> str:
        return LARGE if ctx.event.data["large"] else "canary"

    await lab.work()
    for large in True, False:
        await lab.send("asked", {"large": large})
    await lab.ended(2)
    async with asking_of(lab) as http:
        for where, found, not_evaluated in (
            ("output.startsWith('canary')", 1, 1),
            ("output != null", 1, 1),
            ("event.data.large", 1, 0),
        ):
            told = (await http.get("/v1/runs", params={"where": where})).json()
            assert (len(told["data"]), told["not_evaluated"]) == (found, not_evaluated), where
        page = (await http.get("/runs", params={"where": "output == 'x'"})).text
        assert "could not be evaluated for 1: " in page


async def test_what_says_where_a_result_is_is_never_offered_as_data_of_another_run(lab: Lab) -> None:
    @lab.app.function("makes", on="asked")
    async def makes(ctx: Context, step: Step) -> str:
        return LARGE

    @lab.app.function("hears", on="bus/function.finished")
    async def hears(ctx: Context, step: Step) -> None: ...

    await lab.work()
    await lab.send("asked")
    makes_run, heard = await lab.first("test-makes"), await lab.first("test-hears")
    async with asking_of(lab) as http:
        assert 'name="data"' in (await http.get(f"/runs/{makes_run}")).text
        page = (await http.get(f"/runs/{heard}")).text
    assert "in the store of large results" in page
    assert 'name="data"' not in page


async def test_who_cannot_have_a_result_is_told_so_and_has_no_reference_in_its_place(lab: Lab, folder: Path) -> None:
    @lab.app.function("makes", on="asked")
    async def makes(ctx: Context, step: Step) -> str:
        return await step.run("one", lambda: LARGE)

    await lab.work()
    await lab.send("asked")
    run = (await lab.one()).id
    for path in blobs_of(folder, run):
        path.unlink()
    runs = Runs(lab.app)
    for asked in runs.get(run), runs.steps(run), runs.result(run), record(lab.wire, run):
        with pytest.raises(BlobGone, match=f"does not have '.*{run}"):
            await asked
    async with asking_of(lab) as http:
        for path in f"/v1/runs/{run}", f"/v1/runs/{run}/steps?fields=id,data":
            told = (await http.get(path)).text
            assert "in the store of large results" in told
            assert "$blob" not in told


async def test_a_called_functions_result_and_the_steps_a_rerun_keeps_belong_to_who_has_taken_them_over(
    lab: Lab, folder: Path
) -> None:
    @lab.app.function("child")
    async def child(ctx: Context, step: Step) -> str:
        return LARGE

    @lab.app.function("makes", on="asked", retries=0)
    async def makes(ctx: Context, step: Step) -> int:
        one = await step.run("one", lambda: f"one {LARGE}")
        called = await step.invoke("call", child)
        return len(await step.run("join", lambda: f"{one} {called}"))

    await lab.work()
    await lab.send("asked")
    first = await lab.status(await lab.first("test-makes"), "completed")
    made = await lab.first("test-child")
    for path in blobs_of(folder, made):
        path.unlink()
    again = await rerun(lab.wire, first.id, "join")
    for path in blobs_of(folder, first.id):
        path.unlink()
    done = await lab.status(again, "completed")
    assert done.output == first.output


async def test_a_result_waits_for_the_store_and_no_attempt_is_used_up(lab: Lab, folder: Path) -> None:
    made: list[int] = []

    @lab.app.function("makes", on="asked", retries=0)
    async def makes(ctx: Context, step: Step) -> str:
        def one() -> str:
            made.append(1)
            return LARGE

        try:
            return await step.run("one", one)
        except Exception:
            made.append(-1)
            raise

    folder.write_text("a file where the folder is to be")
    await lab.work()
    await lab.send("asked")
    run = await told_of(lab, await lab.first(), "blobs_unfit")
    assert (run.status, run.attempt, run.crashes) == ("waiting", 0, 0)
    assert str(folder) in str(run.error)
    folder.unlink()
    await hurry_failed(lab.wire, "test-makes", {"blobs_unfit"}, 61_000, partition_of(run.id))
    assert await lab.status(run.id, "completed")
    assert -1 not in made


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("gone", "blob_gone"),
        ("unmounted", "blobs_unfit"),
        ("a file in its place", "blobs_unfit"),
        ("no setting", "blobs_unfit"),
    ],
)
async def test_a_run_whose_blob_cannot_be_had_waits_and_goes_on_when_it_is_back(
    lab: Lab, folder: Path, tmp_path: Path, how: str, code: str
) -> None:
    caught: list[BaseException] = []

    @lab.app.function("makes", on="asked", retries=0)
    async def makes(ctx: Context, step: Step) -> str:
        try:
            one = await step.run("one", lambda: LARGE)
            await step.wait_for_signal("go", "go", timeout="1d")
            return one
        except Exception as error:
            caught.append(error)
            raise

    async with running(Worker(lab.app, settings=lab.settings)):
        lab.app.connect(lab.wire)
        await lab.send("asked")
        run = await lab.status(await lab.first(), "waiting")
    aside, url = tmp_path / "aside", lab.settings.blobs_url
    if how == "no setting":
        url = ""
    elif how != "gone":
        folder.rename(aside)
        if how == "a file in its place":
            folder.write_text("it is no folder")
    else:
        shutil.copytree(folder, aside)
        for path in blobs_of(folder, run.id):
            path.unlink()
    async with running(Worker(lab.app, settings=msgspec.structs.replace(lab.settings, blobs_url=url))):
        await send_signal(lab.wire, "go", "now")
        waits = await told_of(lab, run.id, code)
    assert (waits.status, waits.attempt, waits.crashes) == ("waiting", 0, 0)
    assert ("BUS_BLOBS_URL" in str(waits.error)) == (how == "no setting")
    assert caught == []
    if how == "a file in its place":
        folder.unlink()
    if how != "no setting":
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
    await lab.work()
    assert await Runs(lab.app).result(run.id) == LARGE
    assert caught == []


async def test_nobody_reads_anothers_blob_by_sending_a_reference(lab: Lab) -> None:
    mark = {"a": {"$blob": "bus/test-makes/x/y", "bytes": 1}}
    with pytest.raises(EventInvalid, match=r"data: has a field \$blob"):
        await lab.app.publish([NewEvent("asked", mark)])


async def test_what_is_encrypted_is_encrypted_in_the_store_too(
    lab: Lab, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users_codec, "_codec", codecs.own)

    @lab.app.function("makes", on="asked", retries=0)
    async def makes(ctx: Context, step: Step) -> str:
        return await step.run("one", lambda: LARGE)

    await lab.work()
    await lab.send("asked")
    run = await lab.one()
    assert await Runs(lab.app).result(run.id) == LARGE
    stored = [path.read_bytes() for path in blobs_of(folder, run.id)]
    assert len(stored) == 2
    assert all(b"canary" not in one for one in stored)


def test_a_key_names_the_run_that_it_belongs_to_whatever_its_function_is_called() -> None:
    from types import SimpleNamespace
    from typing import cast

    wire = cast("Any", SimpleNamespace(settings=Settings(prefix="a:b")))
    for slug in ("shop-send", "shop/send", ".odd", "sendU.20.mail", "ümlaut"):
        key = key_of(wire, slug, "01K9", b"{}")
        assert owner_of(key) == (slug, "01K9"), key


async def test_blobs_of_runs_that_are_kept_no_more_are_counted_and_deleted_and_no_others(
    lab: Lab, folder: Path
) -> None:
    @lab.app.function("makes", on="asked", retries=0)
    async def makes(ctx: Context, step: Step) -> str:
        return await step.run("one", lambda: f"{ctx.event.data['of']} {LARGE}")

    await lab.work()
    for of in ("kept", "gone", "young"):
        await lab.send("asked", {"of": of})
    runs = {msgspec.json.decode((await Runs(lab.app).get(run.id)).output or b"")[:4]: run for run in await lab.ended(3)}
    for of in ("kept", "gone"):
        for path in blobs_of(folder, runs[of].id):
            os.utime(path, (time.time() - 90_000,) * 2)
    for of in ("gone", "youn"):
        await forget_run(lab, runs[of])
    counted = await looked_through(lab.wire)
    assert (counted.blobs, counted.left_over, counted.deleted) == (3, 1, False)
    assert counted.left_over_bytes > len(LARGE)
    done = await looked_through(lab.wire, deletes=True)
    assert (done.left_over, done.deleted) == (1, True)
    assert blobs_of(folder, runs["gone"].id) == []
    assert len(blobs_of(folder, runs["kept"].id)) == len(blobs_of(folder, runs["youn"].id)) == 1
    assert (await looked_through(lab.wire)).left_over == 0


async def test_a_store_that_hangs_holds_up_no_caller_of_small_results(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung, is_back = list[str](), asyncio.Event()
    real = Folder.get

    async def get(self: Folder, key: str) -> bytes:
        if owner_of(key)[0] == "test-child":
            hung.append(key)
            await is_back.wait()
        return await real(self, key)

    monkeypatch.setattr(Folder, "get", get)

    @lab.app.function("child")
    async def child(ctx: Context[dict[str, int]], step: Step) -> str:
        return f"{ctx.event.data['n']} {LARGE}" if ctx.event.data["n"] else "small"

    @lab.app.function("makes", on="asked", retries=0)
    async def makes(ctx: Context[dict[str, int]], step: Step) -> int:
        return len(await step.invoke("call", child, data=ctx.event.data))

    @lab.app.function("calls", on="small", retries=0)
    async def calls(ctx: Context, step: Step) -> str:
        return await step.invoke("call", child, data={"n": 0})

    async def are_hung() -> bool:
        return len(hung) >= COURIERS

    await lab.work()
    for n in range(1, COURIERS + 11):
        await lab.send("asked", {"n": n})
    await eventually(are_hung, "as many large results are asked for as are carried at once")
    await lab.send("small")
    await lab.status(await lab.first("test-calls"), "completed")
    is_back.set()
    assert len(await lab.ended(2 * (COURIERS + 11))) == 2 * (COURIERS + 11)


async def test_what_comes_for_a_run_under_way_is_asked_of_the_store_once_while_that_hangs(
    lab: Lab, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung, polled, goes_on = list[str](), list[int](), asyncio.Event()
    real_get, real_poll = Folder.get, executor.poll

    async def get(self: Folder, key: str) -> bytes:
        hung.append(key)
        await goes_on.wait()
        return await real_get(self, key)

    async def poll(*given: Any) -> Any:
        found = await real_poll(*given)
        if hung:
            polled.append(1)
        return found

    monkeypatch.setattr(Folder, "get", get)
    monkeypatch.setattr(executor, "poll", poll)

    @lab.app.function("makes", on="asked", retries=0)
    async def makes(ctx: Context, step: Step) -> list[object]:
        return await asyncio.gather(
            step.wait_for_signal("go", "go", timeout="1d"), step.run("slow", lambda: goes_on.wait())
        )

    async def is_sent() -> bool:
        return await send_signal(lab.wire, "go", LARGE) is not None

    async def is_polled() -> bool:
        return len(polled) >= 3

    await lab.work()
    await lab.send("asked")
    await eventually(is_sent, "the run waits for its signal, and goes on")
    await eventually(is_polled, "it is looked at three more times while its store hangs")
    assert len(hung) == 1
    goes_on.set()
    assert (await lab.one()).status == "completed"


async def test_a_rerun_that_the_store_does_not_allow_leaves_nothing_behind(lab: Lab, folder: Path) -> None:
    @lab.app.function("makes", on="asked")
    async def makes(ctx: Context, step: Step) -> None:
        await step.run("one", lambda: LARGE)
        await step.run("two", lambda: "small")

    await lab.work()
    await lab.send("asked")
    run = await lab.one()
    for path in blobs_of(folder, run.id):
        path.unlink()
    before = await lab.admin.call("KEYS", keys.pattern())
    with pytest.raises(BlobGone):
        await rerun(lab.wire, run.id, "two")
    assert sorted(await lab.admin.call("KEYS", keys.pattern())) == sorted(before)


async def test_a_worker_and_a_site_whose_store_makes_no_sense_do_not_start(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    @lab.app.function("makes", on="asked")
    async def makes(ctx: Context, step: Step) -> None: ...

    monkeypatch.setenv("AWS_ENDPOINT_URL", "nonsense")
    bad = msgspec.structs.replace(lab.settings, blobs_url="s3://results")
    with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL must be an address"):
        await Worker(lab.app, settings=bad).run()
    environ = {"BUS_REDIS_URL": bad.redis_url, "BUS_BLOBS_URL": bad.blobs_url, "AWS_ENDPOINT_URL": "nonsense"}
    served = forks.bus("serve", "--port", str(free_port()), env={**os.environ, **environ})
    assert served.returncode == 1
    assert "AWS_ENDPOINT_URL must be an address" in served.stderr
