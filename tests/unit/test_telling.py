"""Telling: the calls of a turn tell its app of the run, each finished step encoded once."""

import json
from typing import Any

import pytest
from msgspec import Raw

from stepstream.bus.event import RawEvent
from stepstream.checkpoint.run.memo import Failure, Memo
from stepstream.checkpoint.run.owned import Owned
from stepstream.consumers.remote import memos as told
from stepstream.consumers.remote.memos import NEW, Position, Telling
from stepstream.consumers.remote.protocol import hashed

OWNED = Owned("shop-f", "01M80C274S0000000000000000", 3, "fence")
EVENT = RawEvent("01M8", "order/paid", Raw(b'{"n":12345678901234567890}'), 1_795_308_985_442)


def at(**more: Any) -> Position:
    return Position(**{"step": "step", "attempt": 0, "attempts": 5, "only_plan": False, "version": NEW, **more})


def test_a_call_tells_events_and_finished_steps_in_the_order_in_which_they_finished() -> None:
    telling = Telling(OWNED, EVENT)
    memos = {"b": Memo(2, "run", data=Raw(b'{"x":1.0}')), "a": Memo(1, "sleep")}
    body = json.loads(telling.body(memos, at()))
    assert body["event"] == body["events"][0]
    assert body["event"] == {
        "data": {"n": 12345678901234567890},
        "id": "01M8",
        "name": "order/paid",
        "ts": 1_795_308_985_442,
        "user": {},
    }
    assert body["steps"] == {hashed("b"): {"data": {"x": 1.0}}, hashed("a"): None}
    assert body["ctx"]["stack"] == {"current": 2, "stack": [hashed("a"), hashed("b")]}
    assert (body["version"], body["use_api"], body["ctx"]["use_api"], body["defers"]) == (NEW, False, False, {})
    memos["d"] = Memo(4, "run", error=Failure("Boom", "no"))
    memos["c"] = Memo(3, "run", data=Raw('"é"'.encode()))  # recorded by another process, and learnt of late
    body = json.loads(telling.body(memos, at(step=hashed("e"), only_plan=True, version=2, attempt=1)))
    assert body["ctx"]["stack"]["stack"] == [hashed(one) for one in "abcd"]
    assert body["steps"][hashed("c")] == {"data": "é"}
    assert body["steps"][hashed("d")] == {"error": {"name": "Boom", "message": "no"}}
    assert (body["ctx"]["step_id"], body["ctx"]["disable_immediate_execution"]) == (hashed("e"), True)
    assert (body["ctx"]["attempt"], body["ctx"]["max_attempts"], body["version"]) == (1, 5, 2)


def test_a_step_is_encoded_once_however_many_calls_tell_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded, shown = [0], told.shown_memo

    def counted(memo: Memo) -> Any:
        encoded[0] += 1
        return shown(memo)

    monkeypatch.setattr(told, "shown_memo", counted)
    telling, memos = Telling(OWNED, EVENT), dict[str, Memo]()
    for n in range(1, 101):
        memos[f"s{n}"] = Memo(n, "run", data=Raw(b"1"))
        assert len(json.loads(telling.body(memos, at()))["steps"]) == n
    assert encoded == [100]


def test_what_is_too_large_for_a_call_is_left_for_the_app_to_fetch() -> None:
    telling, memos = Telling(OWNED, EVENT), {"a": Memo(1, "run", data=Raw(b'"%b"' % (b"x" * told.MAX_BODY_BYTES)))}
    body = json.loads(telling.body(memos, at()))
    assert (body["events"], body["steps"], body["use_api"], body["ctx"]["use_api"]) == ([], {}, True, True)
    assert body["ctx"]["stack"]["stack"] == [hashed("a")]
    assert body["event"]["name"] == "order/paid"
