"""The lines of redis-cli that each page shows of itself, and `bus redis`: each is a command that reads what is there."""

import html
import json
import re
import shlex

import pytest
import redis
from starlette.testclient import TestClient

from stepstream import create_app
from stepstream.bus.values.clock import now_ms
from stepstream.bus.values.ids import ulid
from stepstream.bus.wire import keys
from stepstream.checkpoint.cli.server.redis_lines import WHAT
from tests.support import Lab
from tests.system.test_commands import bus
from tests.system.test_system_pages import declare
from tests.system.test_wrong_types import work_of_all_kinds

NOTHING = (None, [], "", {}, 0)


def lines_of(page: str) -> list[list[str]]:
    """Return the arguments of redis-cli that a page shows, without where the server is."""
    found = re.findall(r'<code id="copy-key-\d+">(.*?)</code>', page)
    return [shlex.split(html.unescape(line)) for line in found]


async def test_each_page_has_the_lines_of_redis_cli_that_show_what_it_is_read_from(
    lab: Lab, store: "redis.Redis", url: str
) -> None:
    """Only a run's page had them, without host, port and database."""
    await work_of_all_kinds(lab, store)
    port = str(store.connection_pool.connection_kwargs.get("port", ""))
    failed = next(run for run in await lab.runs() if run.status == "failed")
    with TestClient(create_app(configured=lab.settings)) as http:
        event = http.get("/v1/events", params={"name": "held"}).json()["data"][0]["internal_id"]
        seen: set[str] = set()
        for path in ("", "runs", "runs?function=test-f&status=failed", f"runs/{failed.id}", "events", "event-names/held",
                     f"events/{event}", "functions", "functions/test-held", "limits", "schedules", "workers", "errors",
                     "apps", "operations", "system"):  # fmt: skip
            lines = lines_of(http.get(f"/{path}", headers={"accept": "text/html"}).text)
            assert lines, f"/{path} has none"
            for program, *words in lines:
                assert program == "redis-cli"
                assert not port or words[words.index("-p") + 1] == port
                command = words[next(n for n, word in enumerate(words) if word.isupper()) :]
                if store.execute_command(*command) not in NOTHING:  # of a wrong type it would be an error
                    seen.add(command[1])
        assert {keys.run("test-f", failed.id), keys.runs("test-f", "failed"), keys.events("held")} <= seen
        assert {keys.functions(), keys.event_names(), keys.workers(), keys.cron("test-f")} <= seen
        assert {keys.errors("test-f"), keys.function_workers("test-f")} <= seen
        own = [" ".join(line) for line in lines_of(http.get(f"/runs/{failed.id}").text)]
    told = [one["line"] for one in json.loads(bus("redis", "run", failed.id, "--json", url=url))]
    assert [" ".join(shlex.split(one)) for one in told] == own


@pytest.mark.parametrize("what", [one for one in WHAT if " " not in one])
def test_each_list_has_lines_in_the_terminal_too(url: str, store: "redis.Redis", what: str) -> None:
    store.zadd(keys.event_names(), {"a": 1})
    declare(store, "t-f", "2 at a time per event.data.who")
    told = bus("redis", what, url=url)
    assert "redis-cli -" in told or what == "delayed"


def test_the_lines_of_limits_name_the_keys_of_those_that_hold_and_wait(url: str, store: "redis.Redis") -> None:
    declare(store, "t-f", "2 at a time per event.data.who")
    store.zadd(keys.backlog("t-f", "c0:=7"), {ulid(): now_ms()})
    store.zadd(keys.full("t-f"), {"c0:=7": now_ms()})
    told = bus("redis", "limits", url=url)
    for key in (keys.places("t-f", "c0:=7"), keys.backlog("t-f", "c0:=7")):
        assert f"ZRANGE '{key}' 0 19 WITHSCORES" in told


def test_what_has_no_lines_is_refused_with_what_has(url: str) -> None:
    assert "bus redis event-name NAME" in bus("redis", "nothing", url=url, code=1)
    assert "run ID" in bus("redis", "run", url=url, code=1)
