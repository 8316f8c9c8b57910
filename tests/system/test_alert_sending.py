"""Sending alerts: what fails is told and tried again, what two see is said once, and what died is said by the next."""

import asyncio
import itertools
import json
import os
import signal
import sys
from base64 import b64encode
from collections.abc import AsyncGenerator, Generator
from html import escape
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, unquote

import msgspec
import pytest
import redis

from stepstream import Context, Step
from stepstream.bus.errors import WrongType
from stepstream.bus.settings import Settings
from stepstream.bus.values import codec
from stepstream.bus.values.clock import now_ms
from stepstream.bus.wire import keys
from stepstream.bus.wire.wire import Wire
from stepstream.checkpoint.alerts.kept import ROLLED_BACK, Alert, RolledBack, kept
from stepstream.consumers.alerts.conditions import Condition
from stepstream.consumers.alerts.limits import limits_of
from stepstream.consumers.alerts.message import MOST_TOLD, message
from stepstream.consumers.alerts.sending import send
from stepstream.consumers.alerts.turning import CALM_ROUNDS, News, turned
from tests.forks import Forked
from tests.hook import SECRET, Hook, Looking
from tests.patience import PATIENT_S
from tests.support import Lab, eventually, free_port, until

FIRING, RESOLVED = ("rolled_back", "", "firing"), ("rolled_back", "", "resolved")


@pytest.fixture
def hook() -> Generator[Hook]:
    with Hook() as started:
        yield started


@pytest.fixture
async def one(settings: Settings, hook: Hook) -> AsyncGenerator[Looking]:
    async with Looking(settings, hook) as looking:
        yield looking


async def break_it(wire: Wire) -> None:
    """Let a rule find something."""
    told = codec.encode(RolledBack(now_ms(), 2, 1))
    await wire.call("HSET", keys.alerts(), ROLLED_BACK, told)


async def mend_it(wire: Wire) -> None:
    await wire.call("HDEL", keys.alerts(), ROLLED_BACK)


async def at_once(wire: Wire) -> None:
    """Let what could not be sent be tried again now."""
    delivery = (await kept(wire)).delivery
    assert delivery is not None
    await wire.call("HSET", keys.alerts(), "delivery", codec.encode(msgspec.structs.replace(delivery, next=0)))


@pytest.mark.parametrize(
    ("status", "words"), [(500, "answered 500: no: /…/…/…/…"), (302, "answered 302, a redirect, which is not followed")]
)
async def test_what_the_webhook_refuses_is_told_and_tried_again_later(
    one: Looking, hook: Hook, wire: Wire, status: int, words: str
) -> None:
    await break_it(wire)
    hook.status = status
    await one.rounds(5)
    assert len(hook.bodies) == 1, "not again at once"
    assert hook.paths == [f"/services/{SECRET}"], "and not elsewhere"
    found = await kept(wire)
    assert found.delivery is not None
    assert (found.delivery.ok, found.delivery.failures) == (False, 1)
    assert words in found.delivery.words
    assert 14_000 < found.delivery.next - found.delivery.at <= 15_000
    assert [words in notice for notice in one.notices] == [True], "once"
    await at_once(wire)
    await one.rounds()
    again = (await kept(wire)).delivery
    assert again is not None
    assert again.failures == 2
    assert 29_000 < again.next - again.at <= 30_000, "later each time"
    hook.status = 200
    await at_once(wire)
    await one.rounds(3)
    assert hook.told == [FIRING] * 3
    assert "alerts are sent again" in one.notices[-1]
    stored = await wire.call("HGETALL", keys.alerts())
    assert not [part for part in SECRET.split("/") if part.encode() in b"".join(stored)]


async def test_a_webhook_that_echoes_what_it_was_sent_in_another_form_makes_no_secret_known(
    settings: Settings, hook: Hook
) -> None:
    hook.status = 500
    told = message([], settings, now_ms())
    address = hook.origin.replace("://", "://robot:pass%2Bword-abc@") + "/hooks/sec%2Bret%22one?key=two%2Fpart%3Cs"

    def echoed(path: str, authorization: str) -> str:
        return " ".join((unquote(path), authorization, json.dumps(unquote(path)), escape(unquote(path)), quote(path)))

    hook.echoes = echoed
    outcome = await send(msgspec.structs.replace(settings, alert_webhook=address), told)
    assert "answered 500: " in outcome.words
    basic = b64encode(b"robot:pass+word-abc").decode()
    assert not [one for one in ("ret", "part", "word", basic) if one in outcome.words], outcome.words


async def test_what_is_over_before_it_could_be_sent_is_not_told(one: Looking, hook: Hook, wire: Wire) -> None:
    await break_it(wire)
    hook.status = 500
    await one.rounds()
    await mend_it(wire)
    await one.rounds(CALM_ROUNDS)
    hook.status = 200
    await at_once(wire)
    await one.rounds(2)
    assert hook.told == [FIRING]
    assert not (await kept(wire)).alerts


async def test_a_webhook_that_hangs_holds_nothing_up_and_what_may_have_arrived_is_marked_so(
    one: Looking, hook: Hook, wire: Wire
) -> None:
    await break_it(wire)
    hook.hangs = True
    await one.rounds()
    delivery = (await kept(wire)).delivery
    assert delivery is not None
    assert "did not answer within 1.5 s" in delivery.words
    hook.hangs = False
    await at_once(wire)
    await one.rounds()
    first, second = (body["alerts"][0] for body in hook.bodies)
    assert (first["again"], second["again"]) == (False, True)
    assert first["id"] == second["id"]


async def test_what_comes_and_goes_is_one_alert(one: Looking, hook: Hook, wire: Wire) -> None:
    for _ in range(5):
        await break_it(wire)
        await one.rounds()
        await mend_it(wire)
        await one.rounds(CALM_ROUNDS - 1)
    assert hook.told == [FIRING]
    await one.rounds()
    assert hook.told == [FIRING, RESOLVED]


async def test_that_it_still_fires_is_said_again_after_a_time(settings: Settings, hook: Hook, wire: Wire) -> None:
    await break_it(wire)
    async with Looking(settings, hook, alert_remind_ms=3_600_000) as one:
        await one.rounds(3)
        assert hook.told == [FIRING]
        [alert] = (await kept(wire)).alerts.values()
        earlier = msgspec.structs.replace(alert, told=alert.told - 3_600_000)
        await wire.call("HSET", keys.alerts(), alert.field, codec.encode(earlier))
        await one.rounds(3)
        assert hook.told == [FIRING, ("rolled_back", "", "reminder")]


async def test_two_that_look_say_it_once_whoever_looks(settings: Settings, hook: Hook, wire: Wire) -> None:
    """Each round is anybody's: what shuts the others out for a while is taken away before it."""
    async with Looking(settings, hook, by="one") as one, Looking(settings, hook, by="two") as two:
        looked: set[str] = set()
        pairs = itertools.cycle([(one, two), (two, one)])

        async def round_of_either() -> None:
            await wire.call("HDEL", keys.alerts(), "by")
            await asyncio.gather(*(each.rounds() for each in next(pairs)))
            looked.add((await kept(wire)).by)

        for count in range(1, 21):
            await break_it(wire)
            await round_of_either()
            await round_of_either()
            await mend_it(wire)
            for _ in range(CALM_ROUNDS + 1):
                await round_of_either()
            assert hook.told == [FIRING, RESOLVED] * count
        assert looked == {"one", "two"}


async def test_while_one_looks_no_other_does_until_its_time_is_over(settings: Settings, hook: Hook, wire: Wire) -> None:
    async with Looking(settings, hook, by="one") as one, Looking(settings, hook, by="two") as two:
        await one.rounds()
        await two.rounds(3)
        before = await kept(wire)
        assert (before.by, before.round) == ("one", 1)
        now = await wire.clock()
        assert now < before.free <= now + 3_000
        await wire.call("HSET", keys.alerts(), "free", now - 1)
        await two.rounds()
        assert ((await kept(wire)).by, (await kept(wire)).round) == ("two", 2)
        await wire.call("HSET", keys.alerts(), "free", now + 86_400_000)
        await one.rounds()
        assert (await kept(wire)).by == "one", "a clock that was set back shuts nobody out for a day"


async def test_who_was_held_up_while_it_sent_writes_nothing_over_what_the_next_has_seen(
    settings: Settings, hook: Hook, wire: Wire
) -> None:
    """As a process that is stopped before it has the answer: the next one says it again, and says so."""
    await break_it(wire)
    hook.hangs = True
    async with Looking(settings, hook, by="one") as one, Looking(settings, hook, by="two") as two:
        first = asyncio.ensure_future(one.rounds())
        await eventually(lambda: asyncio.sleep(0, hook.bodies), "it sends")
        await wire.call("HDEL", keys.alerts(), "by")
        hook.hangs = False
        await two.rounds()
        [alert] = (await kept(wire)).alerts.values()
        assert alert.told
        await first  # it hears nothing, and is refused
        [after] = (await kept(wire)).alerts.values()
        assert after == alert
        assert (await kept(wire)).delivery == msgspec.structs.replace(cast("Any", (await kept(wire)).delivery), ok=True)
        await two.rounds(2)
        assert [body["alerts"][0]["again"] for body in hook.bodies] == [False, True]


async def test_a_worker_says_what_its_runs_do(lab: Lab, hook: Hook, settings: Settings) -> None:
    @lab.app.function("f", on="a", retries=0)
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None:
        raise ValueError("no")

    lab.settings = msgspec.structs.replace(
        settings, alert_webhook=hook.url, alert_every_ms=500, alert_rules=("failures=1/1h",)
    )
    await lab.work()
    await lab.send("a")
    await eventually(lambda: asyncio.sleep(0, ("failures", f.slug, "firing") in hook.told), "it is told")


async def test_a_key_of_alerts_that_is_none_is_named_and_stops_no_worker(
    lab: Lab, hook: Hook, settings: Settings, store: "redis.Redis"
) -> None:
    @lab.app.function("f", on="a")
    async def f(ctx: Context[dict[str, Any]], step: Step) -> None: ...

    store.set(keys.alerts(), "written by hand")
    lab.settings = msgspec.structs.replace(settings, alert_webhook=hook.url, alert_every_ms=500)
    await lab.work()

    async def named() -> bool:
        return any("looking for alerts failed" in one.event and "bus:alerts" in str(one.fields) for one in lab.notices)

    await eventually(named, "it is told")
    await lab.send("a")
    await lab.one()
    async with Looking(settings, hook) as one:
        with pytest.raises(WrongType, match="bus:alerts"):
            await one.rounds()
    store.delete(keys.alerts())


async def test_what_is_written_by_hand_into_bus_alerts_is_passed_over(one: Looking, hook: Hook, wire: Wire) -> None:
    junk = {"alert waiting x": "{", "alert no_rule": "{}", "set no_rule": "1", "set line": "-1", "round": "many",
            "free": "soon", "by": "\xff", "delivery": "x", "rolled_back": "[]", "ended line": "x", "else": "x"}  # fmt: skip
    await wire.call("HSET", keys.alerts(), *[word for pair in junk.items() for word in pair])
    await one.rounds(2)
    await break_it(wire)
    await one.rounds(2)
    assert hook.told == [FIRING]
    assert (await kept(wire)).unreadable == ("alert no_rule", "alert waiting x", "set line", "set no_rule")


# -- a command --------------------------------------------------------------------------------------------------------


def command(script: str) -> str:
    return f"{sys.executable} -c '{script}'"


async def test_a_command_gets_it_on_its_standard_input_and_no_secret_of_ours(
    settings: Settings, hook: Hook, wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUS_API_TOKENS", "0123456789abcdef")
    monkeypatch.setenv("SHOP_PASSWORD", "hush")
    out = tmp_path / "out"
    script = f'import json, os, sys; open("{out}", "w").write(json.dumps([json.load(sys.stdin), dict(os.environ)]))'
    await break_it(wire)
    async with Looking(settings, hook, alert_webhook="", alert_command=command(script)) as one:
        await one.rounds(3)
        assert one.notices == []
    told, environ = json.loads(out.read_text())
    assert [each["rule"] for each in told["alerts"]] == ["rolled_back"]
    assert "PATH" in environ
    assert not {"BUS_API_TOKENS", "SHOP_PASSWORD", "BUS_REDIS_URL"} & set(environ)


@pytest.mark.parametrize(
    ("script", "words", "seconds"),
    [
        ("import time; time.sleep(3600)", "did not end within 0.5 s, and was killed", 0.5),
        ("import sys; sys.exit(3)", "ended with code 3", PATIENT_S),
        ('import sys; sys.exit("no such pager")', "ended with code 1: no such pager", PATIENT_S),
        ("import os; os.kill(os.getpid(), 9)", "was ended by signal 9", PATIENT_S),
    ],
)
async def test_a_command_that_fails_says_how(script: str, words: str, seconds: float) -> None:
    outcome = await send(Settings(alert_command=command(script)), message([], Settings(), 0), seconds)
    assert not outcome.ok
    assert outcome.words.endswith(words)


async def test_a_command_that_ends_before_it_has_read_anything_has_been_told() -> None:
    """uvloop raised a RuntimeError where its standard input was closed before it was written to."""
    told = message([], Settings(), 0)
    several = (send(Settings(alert_command="true"), told, PATIENT_S) for _ in range(40))
    assert {outcome.words for outcome in await asyncio.gather(*several)} == {"the command true ended with code 0"}


async def test_what_a_command_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    left = f'import subprocess; open("{pid}", "w").write(str(subprocess.Popen(["sleep", "3600"]).pid))'
    outcome = await send(Settings(alert_command=command(left)), message([], Settings(), 0), PATIENT_S)
    assert outcome.ok
    await eventually(lambda: asyncio.sleep(0, not _runs(int(pid.read_text()))), "it has ended")


async def test_what_flees_the_command_and_holds_its_standard_error_holds_nothing_up(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    flees = 'subprocess.Popen(["sleep", "3600"], start_new_session=True).pid'
    left = f'import subprocess, sys; print({flees}, file=open("{pids}", "a")); sys.exit("gone")'
    files: list[int] = []
    try:
        for _ in range(3):
            outcome = await send(Settings(alert_command=command(left)), message([], Settings(), 0), PATIENT_S)
            assert outcome.words.endswith("ended with code 1: gone")
            await asyncio.sleep(0)
            files.append(len(os.listdir("/proc/self/fd")))
        assert files[1] == files[2], "no file is left open"
    finally:
        for pid in pids.read_text().split():
            os.kill(int(pid), signal.SIGKILL)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


async def test_a_command_that_is_not_there_is_named() -> None:
    outcome = await send(Settings(alert_command="/nowhere/page-me --token x"), message([], Settings(), 0))
    assert outcome.words == "the command /nowhere/page-me does not start: No such file or directory"


# -- what is said -----------------------------------------------------------------------------------------------------


async def test_slack_gets_a_text_whose_signs_it_does_not_read_as_its_own(hook: Hook) -> None:
    alert = Alert(rule="line", function="f", state="firing", since=0, value="2", threshold="1", words="<a & b>")
    told = message([News("firing", alert)], Settings(public_url="https://bus.example"), 60_000)
    outcome = await send(Settings(alert_webhook=hook.url, alert_format="slack"), told)
    assert outcome.ok
    text = "FIRING line f: &lt;a &amp; b&gt; (for 1 min; threshold 1) https://bus.example/functions/f"
    assert hook.bodies == [{"text": text}]


def test_what_is_found_as_it_begins_is_not_said_to_have_lasted() -> None:
    alert = Alert(
        rule="failures",
        function="f",
        state="firing",
        since=60_000,
        value="3",
        threshold="20%/1h",
        words="3 of 3 failed",
    )
    told = message([News("firing", alert)], Settings(), 60_000)
    assert told.text == "FIRING failures f: 3 of 3 failed (threshold 20%/1h)"


def test_many_at_once_are_one_message_which_names_some(settings: Settings) -> None:
    found = [Condition(rule="line", function=f"f{n:03}", value="9", words="9 wait") for n in range(MOST_TOLD + 7)]
    made = turned({}, found, limits_of(settings), 0, 0)
    told = message(made.news, settings, 0)
    assert (told.count, len(told.alerts)) == (MOST_TOLD + 7, MOST_TOLD)
    lines = told.text.split("\n")
    assert (lines[0], lines[-1]) == (f"{MOST_TOLD + 7} alerts: {MOST_TOLD + 7} firing", "and 7 more: bus alerts")


# -- processes --------------------------------------------------------------------------------------------------------


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_when_who_looks_is_killed_or_stopped_another_says_it_once(
    url: str, store: "redis.Redis", hook: Hook, tmp_path: Path, number: int
) -> None:
    environ = {**os.environ, "BUS_REDIS_URL": url, "BUS_LEASE": "1", "BUS_ALERT_EVERY": "0.5", "BUS_ALERT_WEBHOOK": hook.url}  # fmt: skip
    sites = [Forked("serve", "--port", str(free_port()), env=environ, err=tmp_path / f"{n}.log") for n in range(2)]

    def looks() -> int:
        by = cast("str | None", store.hget(keys.alerts(), "by"))
        return int(by.split("-")[-2]) if by else 0

    try:
        until(looks, "one looks")
        held_up = looks()
        [other] = [site for site in sites if site.pid != held_up]
        os.kill(held_up, number)
        store.hset(keys.alerts(), ROLLED_BACK, codec.encode(RolledBack(now_ms(), 2, 1)))
        hook.heard(FIRING)
        until(lambda: store.hexists(keys.alerts(), "sent rolled_back"), "it has written that it was sent")
        assert looks() == other.pid
        if number == signal.SIGSTOP:
            os.kill(held_up, signal.SIGCONT)
            other.send_signal(signal.SIGKILL)
            until(lambda: looks() == held_up, "who was stopped looks again")
            before = int(cast("str", store.hget(keys.alerts(), "round")))
            until(lambda: int(cast("str", store.hget(keys.alerts(), "round"))) > before + 2, "it has looked twice")
        assert hook.told == [FIRING]
    finally:
        for site in sites:
            site.send_signal(signal.SIGCONT)
            site.terminate()
        for site in sites:
            site.wait(PATIENT_S)


@pytest.mark.process
def test_who_dies_before_it_has_the_answer_is_followed_by_one_that_says_it_again_as_the_same(
    url: str, store: "redis.Redis", hook: Hook, tmp_path: Path
) -> None:
    environ = {**os.environ, "BUS_REDIS_URL": url, "BUS_LEASE": "1", "BUS_ALERT_EVERY": "0.5", "BUS_ALERT_WEBHOOK": hook.url}  # fmt: skip
    store.hset(keys.alerts(), ROLLED_BACK, codec.encode(RolledBack(now_ms(), 2, 1)))
    hook.hangs = True
    first = Forked("serve", "--port", str(free_port()), env=environ, err=tmp_path / "first.log")
    until(lambda: hook.bodies, "it sends")
    first.send_signal(signal.SIGKILL)
    hook.hangs = False
    second = Forked("serve", "--port", str(free_port()), env=environ, err=tmp_path / "second.log")
    try:
        until(lambda: len(hook.bodies) > 1, "another sends")
        one, again = (body["alerts"][0] for body in hook.bodies[:2])
        assert one["id"] == again["id"]
        assert again["again"]
    finally:
        second.terminate()
        assert second.wait(PATIENT_S) == 0
        first.wait(PATIENT_S)
