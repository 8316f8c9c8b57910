"""Tickets: what lets a page listen for a minute, and what of it is refused."""

import base64
import json

import pytest

from stepstream.bus.errors import BadRequest
from stepstream.bus.trust.tickets import LIVES_S, Heard, TicketRefused, Topic, opened, ticket

KEY, OLD, FOREIGN = (f"signkey-test-{digit * 64}" for digit in "abc")
T = 1795308803000
TOPICS = [Topic("user:1", "news"), Topic("user:1", "Zürich ✓")]


def part(given: str, n: int) -> dict[str, object]:
    text = given.split(".")[n]
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def test_a_ticket_is_a_jwt_and_names_its_topics() -> None:
    made = ticket(TOPICS, [KEY], T)
    assert part(made, 0) == {"alg": "HS256", "typ": "JWT"}
    assert part(made, 1)["exp"] == T // 1_000 + LIVES_S
    assert KEY not in made
    assert opened(ticket(TOPICS, [KEY], T, is_whole=False), [KEY], T) == Heard(TOPICS, is_whole=False)
    assert opened(made, [KEY], T) == Heard(TOPICS)


def test_it_counts_while_the_key_is_changed_and_not_with_another() -> None:
    made = ticket(TOPICS, [OLD], T)
    assert opened(made, [KEY, OLD], T + 1) == Heard(TOPICS)
    for keys in ([KEY], [FOREIGN], []):
        with pytest.raises(TicketRefused, match="not given by this server"):
            opened(made, keys, T)
    with pytest.raises(TicketRefused):
        opened(ticket(TOPICS, [], T), [KEY], T)


def test_its_time_is_over_after_a_minute() -> None:
    made = ticket(TOPICS, [KEY], T)
    assert opened(made, [KEY], T + LIVES_S * 1_000 - 1) == Heard(TOPICS)
    with pytest.raises(TicketRefused, match=r"60 s to connect are over since 0 s"):
        opened(made, [KEY], T + LIVES_S * 1_000)


@pytest.mark.parametrize("keys", [[KEY], []])
def test_what_is_none_is_refused(keys: list[str]) -> None:
    made = ticket(TOPICS, keys, T)
    head, claims, mac = made.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').decode()
    told = json.dumps({**part(made, 1), "topics": []})
    for given in (
        "",
        ".",
        "a.b.c",
        made[:-1],
        f"{made}=",
        f"{none}.{claims}.",
        f"{head}.{told}.{mac}",
        "é.é.é",
        f".{made}",
    ):
        with pytest.raises(TicketRefused):
            opened(given, keys, T)


def test_without_keys_whatever_anybody_signs_is_looked_at() -> None:
    with pytest.raises(TicketRefused, match="cannot be read"):
        opened(ticket([], [], T), [], T)


def test_one_that_no_address_holds_is_not_given() -> None:
    with pytest.raises(BadRequest, match="ask for fewer topics"):
        ticket([Topic("c" * 255, "t" * 255)] * 20, [KEY], T)
