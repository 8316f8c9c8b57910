"""Names that would like to be something else: a hash tag, a separator, a pattern, a path, markup, Lua."""

import json
from pathlib import Path

import pytest
import redis
from starlette.testclient import TestClient

from stepstream import Bus, ConfigError, Context, EventInvalid, Step
from stepstream.bus.wire import keys
from stepstream.consumers.worker import Worker
from tests.scripts import all_scripts
from tests.support import Lab

HOSTILE = [
    "a}b{c", "{x}", "{}", "{{a}", "a:b", "a:seen:b", "?[a]", "%2e%2e/", "../../etc/passwd", "..\\..\\x", "con", "__init__",
    "a' .. redis.call('FLUSHALL') .. '", "<script>alert(1)</script>", "é", "e\u0301", "\u202egnp", "a|b=c|d", "ключ",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
async def test_an_event_of_any_name_stays_in_its_own_keys_and_runs_its_own_function(lab: Lab, name: str) -> None:
    """C 39-42, 44, 48: hash tags, separators, SCAN patterns, look-alikes and Lua are only ever data."""

    @lab.app.function("f", on=name)
    async def f(ctx: Context[dict], step: Step) -> str:
        answer = await step.wait_for_event(name, name, match="data.key", timeout="1h")
        return f"{ctx.event.name} {answer.data['key'] if answer else ''}"

    await lab.work()
    await lab.send("bystander", {"key": name})
    await lab.send(name, {"key": name}, id=name)
    await lab.status(await lab.first(), "waiting")
    await lab.send(name, {"key": name})
    runs = await lab.some(2)
    ended = await lab.status(min(run.id for run in runs), "completed")
    assert json.loads(bytes(ended.output or b"")) == f"{name} {name}"
    tags = {key.decode().partition("{")[2].partition("}")[0] for key in await lab.admin.call("KEYS", "bus:events:*")}
    assert not [tag for tag in tags if "{" in tag or ":" in tag]
    assert await lab.wire.call("XLEN", keys.events("bystander")) == 1


def test_equal_looking_names_and_separators_give_different_keys() -> None:
    """C 39, 40, 44: no two names share a key, whatever they hold."""
    every = [*HOSTILE, "a", "b", "x", "a:seen", "é".encode().decode()]
    made = {keys.events(name) for name in every} | {keys.seen("a", name) for name in every}
    assert len(made) == 2 * len(set(every))


@pytest.mark.parametrize("name", ["a\r\nb", "a\x00b", "x" * 65_536, " a", "a\u2028b"])
def test_names_that_no_line_can_hold_are_refused(http: TestClient, name: str) -> None:
    """C 42, 43: nothing unprintable, nothing over 512 bytes."""
    assert http.post("/e/k", json={"name": name}).status_code == 400
    with pytest.raises((ConfigError, EventInvalid)):
        Bus("a").function("f", on=name)


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/passwd",
        "%2e%2e/%2e%2e/etc/passwd",
        "..%5c..%5cx",
        "/etc/passwd",
        "%00",
        "style.css%00.png",
        "....//x",
    ],
)
def test_no_path_leads_out_of_the_static_files(http: TestClient, path: str) -> None:
    """C 45."""
    answer = http.get(f"/static/{path}")
    assert answer.status_code in (400, 404), answer.text[:100]
    assert "root:" not in answer.text


@pytest.mark.parametrize("id", ["__init__", "con", "../x", "a b", "", "é", "x" * 129])
def test_function_ids_are_plain_words(id: str) -> None:
    """C 46: an id that begins with a letter or digit is fine, `con` too: no file is named by it."""
    if id == "con":
        Bus("a").function(id, on="a")
        return
    with pytest.raises(ConfigError, match="id"):

        @Bus("a").function(id, on="a")
        async def f(ctx, step):
            return None


def test_a_caller_cannot_choose_a_stream_id(http: TestClient, url: str) -> None:
    """C 47: an id of the caller's is a field; the stream's own ids are the server's."""
    http.post("/e/k", json={"name": "a", "id": "18446744073709551615-18446744073709551615"})
    http.post("/e/k", json={"name": "a"})
    with redis.Redis.from_url(url, decode_responses=True) as store:
        entries = store.xrange(keys.events("a"))
    assert len(entries) == 2
    assert all(entry < "2" for entry, _ in entries), "the time of the server, of this century"


def test_no_script_is_put_together_from_text_of_users() -> None:
    """C 48: scripts are files; user text is only ever KEYS and ARGV."""
    root = Path(__file__).parent.parent.parent
    for script in all_scripts().values():
        assert "loadstring" not in script.text
    for path in root.glob("b*/**/*.py"):
        assert '"EVAL", f' not in path.read_text()


def test_two_buses_with_one_function_id_are_refused_in_one_worker() -> None:
    """Each took the other's events and went on with the other's runs."""
    first, second = Bus("shop"), Bus("shop")
    for app in (first, second):
        app.function("f", on="a")(_handler)
    with pytest.raises(ConfigError, match="two of the given buses have a function 'shop-f'"):
        Worker(first, second)


async def _handler(ctx: Context[dict], step: Step) -> None: ...
