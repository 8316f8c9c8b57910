"""Who may share a page that is made once, and what each browser gets in it of its own: no server, no HTTP."""

from typing import Any

import pytest
from starlette.requests import Request

from stepstream.web.pages.sharing import MARKS, Own, same
from stepstream.web.paths import enter
from stepstream.web.trust.principal import PRINCIPAL, Principal


def asked(**other: Any) -> Request:
    scope = {
        "type": "http", "method": "GET", "scheme": "http", "server": ("localhost", 80), "path": "/runs", "root_path": "",
        "query_string": b"status=failed", "headers": [(b"host", b"here")], PRINCIPAL: Principal("Ada", "read"),
    }  # fmt: skip
    scope.update(other)
    enter(scope)
    return Request(scope)


@pytest.mark.parametrize(
    "other",
    [
        {"scheme": "https"}, {"headers": [(b"host", b"there")]}, {"path": "/errors"}, {"query_string": b""},
        {"root_path": "/bus"}, {PRINCIPAL: Principal("Ada", "operate")},
    ],
    ids=lambda other: next(iter(other)),
)  # fmt: skip
def test_whoever_asks_otherwise_gets_a_page_of_their_own(other: dict[str, Any]) -> None:
    assert same(asked()) == same(asked())
    assert same(asked()) == same(asked(**{PRINCIPAL: Principal("Bob", "read")})), "who it is shows nowhere"
    assert same(asked()) != same(asked(**other))


def test_each_place_for_an_id_gets_another_and_each_for_the_token_the_same() -> None:
    ids = iter("123456")
    own = Own(form_token=lambda: "token", once=lambda: next(ids), ulid=lambda: next(ids))
    text = " ".join(mark() for mark in (MARKS.form_token, MARKS.once, MARKS.ulid, MARKS.once, MARKS.form_token))
    assert own.put_into(text) == "token 1 3 2 token"
    assert own.put_into("nothing of its own") == "nothing of its own"
