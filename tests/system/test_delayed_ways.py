"""Delayed events from the command line and over HTTP: sent, listed, taken back."""

import json
import re

import pytest
import redis
from starlette.testclient import TestClient

from stepstream import ConfigError, EventInvalid
from stepstream.bus.wire import keys
from stepstream.checkpoint.delayed import DelayedNotFound
from stepstream.producers.cli import delayed, send
from tests.support import fields

pytestmark = pytest.mark.usefixtures("in_environment")


def sending(name: str, **given: object) -> None:
    all_given: dict = {"words": ["n=1"], "id": None, "delay": None, "at": None, "wait": 0.0, "as_json": True}
    send(name, **(all_given | given))


def test_bus_send_keeps_an_event_and_bus_delayed_lists_it_and_takes_it_back(
    store: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    sending("a", id="x", delay="2h")
    told = json.loads(capsys.readouterr().out)
    assert (told["id"], told["entry"]) == ("x", "")
    assert told["due"] > 1_700_000_000_000
    sending("b", id="y", delay="90", as_json=False)
    assert capsys.readouterr().out.startswith("y  to be published 2")
    delayed(None, None, None, 50, as_json=True)
    assert [one["id"] for one in json.loads(capsys.readouterr().out)] == ["y", "x"]
    delayed("cancel", "b", "y", 50, as_json=False)
    capsys.readouterr()
    delayed(None, None, None, 50, as_json=False)
    assert capsys.readouterr().out.rstrip().endswith("  a  x")
    assert not store.exists(keys.events("a"), keys.events("b"))


def test_what_makes_no_sense_on_the_command_line_is_told(store: redis.Redis) -> None:
    with pytest.raises(EventInvalid, match="no time zone"):
        sending("a", at="2030-01-01T09:00:00")
    with pytest.raises(EventInvalid, match="write 2026-12-01T09:00:00Z"):
        sending("a", at="tomorrow")
    with pytest.raises(EventInvalid, match="is not a duration"):
        sending("a", delay="soon")
    with pytest.raises(ConfigError, match="leave it out"):
        sending("a", delay="1h", wait=3.0)
    with pytest.raises(DelayedNotFound):
        delayed("cancel", "a", "x", 50, as_json=False)
    with pytest.raises(ConfigError, match="bus delayed cancel NAME ID"):
        delayed("cancel", None, None, 50, as_json=False)


def test_http_keeps_an_event_lists_it_and_takes_it_back(http: TestClient, store: redis.Redis) -> None:
    body = [{"name": "a/b", "id": "x", "delay": "2h"}, {"name": "a/b", "id": "y", "delay": 90, "data": {"n": 9}}]
    assert http.post("/e/key", json=body).json()["ids"] == ["x", "y"]
    listed = http.get("/v1/delayed?fields=id,name,data").json()["data"]
    assert [(one["id"], one["name"], one["data"]) for one in listed] == [("y", "a/b", {"n": 9}), ("x", "a/b", {})]
    assert [one["id"] for one in http.get("/v1/delayed?name=a/b&limit=1").json()["data"]] == ["y"]
    assert http.delete("/v1/delayed?name=a/b&id=y").json()["data"]["status"] == "cancelled"
    gone = http.delete("/v1/delayed?name=a/b&id=y")
    assert (gone.status_code, gone.json()["code"]) == (404, "delayed_not_found")
    assert http.delete("/v1/delayed?name=a/b").status_code == 400
    assert http.get("/v1/delayed?limit=0").status_code == 400
    assert [one["id"] for one in http.get("/v1/delayed").json()["data"]] == ["x"]
    assert not store.exists(keys.events("a/b"))


def test_the_page_shows_delayed_events_and_takes_one_back(http: TestClient, store: redis.Redis) -> None:
    assert "To be published later" not in http.get("/").text
    http.post("/e/key", json={"name": "a&b/<c>", "id": "x y", "delay": "2h"})
    page = http.get("/").text
    assert "To be published later" in page
    assert "<c>" not in page
    [action] = re.findall(r'action="([^"]*delayed/cancel[^"]*)"', page)
    form = fields(page)
    assert (form["name"], form["id"]) == ("a&b/<c>", "x y")
    assert http.post(action, data=form, follow_redirects=False).status_code == 303
    assert http.post(action, data=form, follow_redirects=False).status_code == 303, "pressed twice"
    assert "To be published later" not in http.get("/").text


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"at": "2030-01-01T09:00:00"}, "at"),
        ({"at": 1_900_000_000_000}, "at"),
        ({"at": "2100-01-01T00:00:00Z"}, "at"),
        ({"delay": True}, "delay"),
        ({"delay": {}}, "delay"),
        ({"delay": "soon"}, "delay"),
        ({"delay": 1, "at": "2030-01-01T09:00:00Z"}, "at"),
    ],
)
def test_http_refuses_a_time_that_makes_no_sense(http: TestClient, given: dict, field: str) -> None:
    answer = http.post("/e/key", json=[{"name": "a"}, {"name": "a", **given}])
    assert (answer.status_code, answer.json()["field"], answer.json()["event"]) == (400, field, 1)
    assert answer.json()["ids"] == []
