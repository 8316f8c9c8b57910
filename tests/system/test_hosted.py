"""Hosted servers and narrow ACLs: each right that is missing costs one thing, told once; the work goes on."""

import asyncio
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
import redis
from starlette.testclient import TestClient

from stepstream import Bus, Context, Step
from stepstream.bus.errors import ConfigError
from stepstream.bus.observe.signals import Noticed, Signals
from stepstream.bus.settings import Settings
from stepstream.bus.wire import keys
from stepstream.bus.wire.doctor import Finding, examine
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.controls.pauses import pause_function, resume_function
from stepstream.checkpoint.controls.run_one import run_one
from stepstream.consumers.upkeep import repair
from stepstream.consumers.worker import Worker, running
from stepstream.web.app import create_app
from tests.chaos.resp import RespProxy
from tests.patience import PATIENT_S
from tests.support import ValkeyProcess, eventually, free_port


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Generator[ValkeyProcess]:
    """A server whose users have but what a test gives them."""
    with ValkeyProcess(tmp_path_factory.mktemp("narrow")) as made:
        yield made


class Hosted:
    """A function, a worker that runs it on a server that is not ours, and what the worker said."""

    def __init__(self, url: str) -> None:
        self.settings = Settings(redis_url=url, lease_ms=1_000, drain_ms=3_000)
        self.said: list[Noticed] = []
        self.app = Bus("hosted")

        @self.app.function("f", on="a")
        async def f(ctx: Context[dict], step: Step) -> str:
            await step.run("first", lambda: "once")
            await step.sleep("nap", ctx.event.data.get("nap", 0.01))
            return "done"

    @asynccontextmanager
    async def works(self) -> AsyncGenerator[Worker]:
        signals = Signals()
        signals.noticed.listen(self._hear)
        with anyio.fail_after(PATIENT_S):
            async with running(Worker(self.app, settings=self.settings, signals=signals)) as worker:
                yield worker

    def _hear(self, notice: Noticed) -> None:
        if not notice.event.startswith("persistence"):
            self.said.append(notice)

    def about(self, words: str) -> list[Noticed]:
        return [notice for notice in self.said if words in notice.event]


def user(server: ValkeyProcess, *rules: str) -> str:
    """Give a user all of our keys and all commands but some; return the URL it comes with."""
    with redis.Redis.from_url(server.url, protocol=2) as store:
        store.flushall()
        store.script_flush()  # what the server has already nobody loads
        store.execute_command("ACL", "SETUSER", "app", "reset", "on", ">pw", "~bus:*", "+@all", *rules)
    return server.url.replace("redis://", "redis://app:pw@")


async def completed(server: ValkeyProcess, count: int) -> None:
    with redis.Redis.from_url(server.url, protocol=2) as store:

        async def look() -> bool:
            return store.zcard(keys.runs("hosted-f", "completed")) == count

        await eventually(look, f"{count} completed runs")


RIGHTS = {
    "-info": "INFO", "-client|id": "CLIENT ID", "-client|unblock": "CLIENT UNBLOCK", "-config": "CONFIG GET",
    "-client|setname": "CLIENT SETNAME", "-script|load": "SCRIPT LOAD",
}  # fmt: skip
NEEDED_BY_DOCTOR_ONLY = {"CONFIG GET"}


@pytest.mark.parametrize("rule", RIGHTS)
async def test_a_worker_works_without_a_right_and_says_once_what_that_costs(narrow: ValkeyProcess, rule: str) -> None:
    """Without CLIENT ID no reader read, with 528 lines in 15 s; without INFO there was a line each 5 s."""
    hosted = Hosted(user(narrow, rule))
    async with hosted.works():
        for times in range(1, 4):  # a run that begins at an idle worker begins in another way than one of many
            await hosted.app.send("a", {})
            await completed(narrow, times)
        stopped = time.monotonic()
    assert time.monotonic() - stopped < 15.0
    expected = [] if RIGHTS[rule] in NEEDED_BY_DOCTOR_ONLY else [RIGHTS[rule]]
    assert [notice.event.partition(" is refused")[0] for notice in hosted.about(" is refused")] == expected
    assert all("ACL SETUSER" in notice.fields["do"] for notice in hosted.about(" is refused"))
    assert [notice for notice in hosted.said if "is refused" not in notice.event] == []


async def test_doctor_advises_on_each_missing_right_and_calls_none_of_them_unfit(narrow: ValkeyProcess) -> None:
    wire = Wire(Settings(redis_url=user(narrow, *RIGHTS)), "doctor")
    found = {finding.check: finding for finding in await examine(wire)}
    await wire.close()
    assert [one for one in found.values() if one.verdict == "unfit"] == []
    for rule, words in RIGHTS.items():
        assert found[words].verdict == "advice"
        assert "no permissions" in found[words].found
        assert rule.replace("-", "+").removesuffix("|get") in found[words].do
    assert found["rights"].verdict == "fit"
    assert found["eviction"].found == "not shown to this user"


async def test_commands_that_a_host_has_renamed_are_like_rights_that_are_missing(tmp_path: Path) -> None:
    gone = [word for name in ("INFO", "CLIENT", "CONFIG", "HELLO") for word in ("--rename-command", name, "")]
    with ValkeyProcess(tmp_path, *gone) as server:
        hosted = Hosted(server.url)
        async with hosted.works():
            await hosted.app.send("a", {})
            await completed(server, 1)
        assert sorted(notice.event.partition(" is refused")[0] for notice in hosted.about(" is refused")) == [
            "CLIENT ID", "CLIENT SETNAME", "HELLO", "INFO",
        ]  # fmt: skip
        wire = Wire(hosted.settings, "doctor")
        found = await examine(wire)
        await wire.close()
        assert [one for one in found if one.verdict == "unfit"] == []


async def test_hello_tells_version_role_and_cluster_where_info_is_not_ours(narrow: ValkeyProcess) -> None:
    wire = Wire(Settings(redis_url=user(narrow, "-info")), "doctor")
    found: dict[str, Finding] = {finding.check: finding for finding in await examine(wire)}
    await wire.close()
    assert found["version"].found.startswith("Valkey 9")
    assert (found["role"].found, found["cluster"].found) == ("primary", "off")


async def test_a_cluster_without_info_is_refused_and_not_waited_for_in_silence(tmp_path: Path) -> None:
    with (
        ValkeyProcess(
            tmp_path, "--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--rename-command", "INFO", ""
        ) as server,
        pytest.raises(ConfigError, match="a cluster is not supported yet"),
    ):
        await Worker(Hosted(server.url).app, settings=Settings(redis_url=server.url)).run()


def test_the_api_answers_503_while_the_password_is_refused_and_goes_on_when_it_is_not(narrow: ValkeyProcess) -> None:
    """It was 400, as if the caller had done something wrong."""
    site = create_app(configured=Settings(redis_url=user(narrow), timeout_ms=500))
    with redis.Redis.from_url(narrow.url) as store, TestClient(site) as http:
        assert http.post("/e/key", json={"name": "a"}).status_code == 200
        store.execute_command("ACL", "SETUSER", "app", "resetpass", ">other")
        store.execute_command("CLIENT", "KILL", "USER", "app")
        for answer in (http.post("/e/key", json={"name": "a"}), http.get("/v1/runs"), http.get("/ready")):
            assert answer.status_code == 503, answer.text
            assert "refuses the user or the password" in answer.text
            assert "pw" not in answer.text
        store.execute_command("ACL", "SETUSER", "app", "resetpass", ">pw")
        assert http.post("/e/key", json={"name": "a"}).status_code == 200
        assert http.get("/ready").status_code == 200


async def test_a_cluster_that_tells_nothing_of_itself_is_told_of(tmp_path: Path) -> None:
    """The server answers CLUSTERDOWN or MOVED to every command: the worker waits, and says for what."""
    gone = ("--rename-command", "INFO", "", "--rename-command", "HELLO", "")
    with ValkeyProcess(tmp_path, "--cluster-enabled", "yes", "--cluster-port", str(free_port()), *gone) as server:
        hosted = Hosted(server.url)
        signals = Signals()
        signals.noticed.listen(hosted._hear)
        worker = Worker(hosted.app, settings=hosted.settings, signals=signals)
        working = asyncio.ensure_future(worker.run())

        async def told() -> list[Noticed]:
            return [notice for notice in hosted.said if "CLUSTERDOWN" in str(notice.fields)]

        assert len(await eventually(told, "the server's word")) == 1
        worker.stop()
        with pytest.raises(Exception, match="stopped before Redis answered"):
            await working


async def test_a_password_that_is_rotated_is_one_line_and_no_lost_run(narrow: ValkeyProcess) -> None:
    """It was 932 lines, and 400 from the API."""
    hosted = Hosted(user(narrow))
    with redis.Redis.from_url(narrow.url) as store:
        async with hosted.works():
            await hosted.app.send("a", {"nap": 1.0})

            async def sleeps() -> bool:
                return store.zcard(keys.runs("hosted-f", "waiting")) == 1

            await eventually(sleeps, "a run that sleeps")
            store.execute_command("ACL", "SETUSER", "app", "resetpass", ">other")
            store.execute_command("CLIENT", "KILL", "USER", "app")

            async def told() -> bool:
                return bool([notice for notice in hosted.said if "password" in str(notice.fields)])

            await eventually(told, "that the password is refused")
            await asyncio.sleep(1.0)  # longer than the lease, and time for many lines
            assert [notice.fields["state"] for notice in hosted.said] == ["WRONGPASS"], hosted.said
            assert "pw@" not in str(hosted.said)
            store.execute_command("ACL", "SETUSER", "app", "resetpass", ">pw")
            await completed(narrow, 1)
            await hosted.app.send("a", {})
            await completed(narrow, 2)


async def test_without_info_a_broken_connection_is_taken_for_a_restart_and_runs_are_repaired(
    narrow: ValkeyProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without INFO there was no repair at all."""
    monkeypatch.setattr(repair, "LOOK_EVERY_S", 0.1)
    hosted = Hosted(user(narrow, "-info"))
    with redis.Redis.from_url(narrow.url) as store:
        async with hosted.works():
            await hosted.app.send("a", {"nap": 0.5})

            async def sleeps() -> bool:
                return store.zcard(keys.runs("hosted-f", "waiting")) == 1

            await eventually(sleeps, "a run that sleeps")
            store.delete(keys.timers("hosted-f"))  # as a server that has forgotten its last moment
            store.execute_command("CLIENT", "KILL", "USER", "app")
            await completed(narrow, 1)
            assert len(hosted.about("all runs are looked at")) == 1
            assert len(hosted.about("had no holder")) == 1


async def test_a_lease_that_is_refused_is_told_and_not_waited_for_in_silence(narrow: ValkeyProcess) -> None:
    """Nothing is read without a lease; the thread that renews it has a connection of its own."""
    hosted = Hosted(user(narrow, "-eval"))
    with redis.Redis.from_url(narrow.url) as store:
        async with hosted.works():

            async def told() -> bool:
                return any("'eval' command" in str(notice.fields) for notice in hosted.about("does not serve"))

            await eventually(told, "that EVAL is refused")
            await asyncio.sleep(0.5)
            assert len(hosted.about("does not serve")) == 1
            store.execute_command("ACL", "SETUSER", "app", "+eval")
            await hosted.app.send("a", {})
            await completed(narrow, 1)


async def test_a_worker_that_is_refused_its_lease_pauses_and_resumes_and_claims_no_order_until_it_has_it(
    narrow: ValkeyProcess,
) -> None:
    hosted = Hosted(user(narrow, "-eval"))
    with redis.Redis.from_url(narrow.url, protocol=2) as store:
        ours = Wire(Settings(redis_url=narrow.url), "ours")

        async def said(count: int, event: str) -> None:
            await eventually(lambda: asyncio.sleep(0, len(hosted.about(event)) >= count), f"{count} times {event}")

        async with hosted.works():
            await pause_function(ours, "hosted-f", "Ada")
            await said(1, "paused")
            await run_one(ours, "hosted-f", "Ada")
            await resume_function(ours, "hosted-f")
            await said(1, "resumed")
            await pause_function(ours, "hosted-f", "Ada")
            await said(2, "paused")
            for _ in range(2):
                await hosted.app.send("a", {})
            asked = await run_one(ours, "hosted-f", "Ada")
            assert await run_one(ours, "hosted-f", "Bob") == asked, "nobody has taken it"
            store.execute_command("ACL", "SETUSER", "app", "+eval")
            await said(1, "one run is let through")
            assert store.xinfo_groups(keys.events("a"))[0]["lag"] == 1
        await ours.close()


async def test_a_host_that_refuses_in_words_of_its_own_is_understood(narrow: ValkeyProcess) -> None:
    """Not NOPERM and not "unknown command": an ERR that one would wait for, were the command needed."""
    user(narrow)
    with RespProxy(narrow.port) as host:
        for name in ("INFO", "HELLO", "CLIENT ID", "CLIENT SETNAME", "CONFIG GET"):
            host.refuse(f"ERR Command is not available: '{name}'. See our pages", name=name)
        hosted = Hosted(host.url)
        async with hosted.works():
            await hosted.app.send("a", {})
            await completed(narrow, 1)
    assert sorted(notice.event.partition(" is refused")[0] for notice in hosted.said) == [
        "CLIENT ID", "CLIENT SETNAME", "HELLO", "INFO",
    ]  # fmt: skip


async def test_a_worker_that_starts_with_a_wrong_password_waits_for_the_right_one(narrow: ValkeyProcess) -> None:
    """In a rotation its settings may be right and the server late; a restart mends neither."""
    right = user(narrow)
    hosted = Hosted(right.replace("app:pw@", "app:zanzibar@"))
    with redis.Redis.from_url(narrow.url) as store:
        working = asyncio.ensure_future(_worked(hosted))

        async def told() -> bool:
            return "refuses the user or the password" in str(hosted.said)

        await eventually(told, "what it waits for")
        store.execute_command("ACL", "SETUSER", "app", ">zanzibar")
        await working
        assert [notice.fields["state"] for notice in hosted.about("does not serve")] == ["WRONGPASS"]
        assert "zanzibar" not in str(hosted.said)


async def _worked(hosted: Hosted) -> None:
    async with hosted.works():
        pass
