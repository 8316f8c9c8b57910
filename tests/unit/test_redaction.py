"""Redaction: what is hidden under which key, in JSON, in structs and in texts, and that it takes no long time."""

import re
from typing import Any, TypedDict

import msgspec
import pytest
from msgspec import Raw

from stepstream.bus.errors import ConfigError, EventInvalid
from stepstream.bus.event import EventData, event
from stepstream.bus.settings import Settings, read
from stepstream.bus.trust.redaction import DEFAULT, MASK, Redaction, redaction_of
from stepstream.bus.values import codec
from stepstream.bus.values.schemas import schema_of

REDACTION = Redaction(DEFAULT)


@pytest.mark.parametrize(
    "key", ["password", "PASSWORD", "userPassword", "accessToken", "access-token", "X-Api-Key", "Set-Cookie", "clientSecret", "api.key"]
)  # fmt: skip
def test_what_stands_under_the_name_of_a_secret_is_hidden_however_the_name_is_written(key: str) -> None:
    assert REDACTION.plain({"a": [{key: "abc"}, {key: 12}, {key: {"b": "abc"}}]}) == {"a": [{key: MASK}] * 3}
    assert REDACTION.text(f"it was {key}=abc") == f"it was {key}={MASK}"


@pytest.mark.parametrize("key", ["tokens_used", "tokenizer", "cookies_accepted", "author", "secretary", "a.token.b"])
def test_what_only_sounds_like_one_is_not(key: str) -> None:
    value = {key: "abc"}
    assert REDACTION.plain(value) is value


def test_what_is_not_there_is_told_as_such() -> None:
    assert REDACTION.plain({"token": None, "secret": ""}) == {"token": None, "secret": MASK}


def test_headers_are_hidden_as_pairs_and_as_objects_too() -> None:
    given = [["Cookie", "a=1"], ["Accept", "b"], {"name": "Authorization", "value": "Bearer abc"}]
    assert REDACTION.plain(given) == [["Cookie", MASK], ["Accept", "b"], {"name": "Authorization", "value": MASK}]


class Told(msgspec.Struct, frozen=True):
    token: str
    data: Raw
    rows: tuple[dict[str, int], ...] = ()


def test_the_names_of_a_struct_are_ours_and_json_in_it_is_not() -> None:
    told = REDACTION.of(Told("a name of ours", Raw(b'{"token":"abc","n":1}'), ({"token": 3},)))
    assert told == Told("a name of ours", Raw(b'{"token":"[redacted]","n":1}'), ({"token": 3},))


def test_json_that_hides_nothing_stays_the_text_that_it_was() -> None:
    raw = b'{ "n": 1.50, "big": 123456789012345678901234567890 }'
    assert REDACTION.json(raw) is raw


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"password": "a\\"b", "x": 1}', '{"password": "[redacted]", "x": 1}'),
        ("Login(user='a', password='x')", "Login(user='a', password='[redacted]')"),
        ("Authorization: Bearer abc.def, next", "Authorization: [redacted]"),
        ("Cookie: a=b; c=d\nAccept: y", "Cookie: [redacted]\nAccept: y"),
        ('event.data.token == "abc" && x', 'event.data.token == "[redacted]" && x'),
        ('did not begin: event.data.token is "a b", event.data.n is 1', "did not begin: event.data.token is [redacted], event.data.n is 1"),
        ("redis://user:pw@host:6379/0", "redis://user:[redacted]@host:6379/0"),
        ("redis://user:***@host:6379/0", "redis://user:***@host:6379/0"),  # as settings show it
        ('{\\"apiKey\\": \\"xyz\\", \\"n\\": 1}', '{\\"apiKey\\": \\"[redacted]\\", \\"n\\": 1}'),
        ('cut short: "password": "hunt', 'cut short: "password": "[redacted]"'),
        ("got Bearer abcdefghij", "got Bearer [redacted]"),
        ("access_token=abc&n=1", "access_token=[redacted]&n=1"),
        ("redis://user:p@ss@host:6379/0 and b@c", "redis://user:[redacted]@host:6379/0 and b@c"),
        ('token=["abc", {"n": 1}], n=1', "token=[redacted], n=1"),
        ("{'password': {'a': (1, {}), 'b': 'abc'}, 'n': 1}", "{'password': [redacted], 'n': 1}"),
        ("cut short: secret={'a': {'b': 'abc'}, 'c", "cut short: secret=[redacted]"),
        ("Login(token=SecretStr('abc'), password=b'abc', n=1)", "Login(token=[redacted], password=[redacted], n=1)"),
        ("token=Secret('a)b', \"it's)\"), n=1", "token=[redacted], n=1"),
        ("password=<abc>, n", "password=[redacted], n"),
        ('"password" => "abc", "n" => 1', '"password" => "[redacted]", "n" => 1'),
        ("got\tBearer\tabcdefghij", "got\tBearer [redacted]"),
        ("the token was refused: too old", "the token was refused: too old"),
        ("12 tokens: 3 of them new", "12 tokens: 3 of them new"),
    ],
)  # fmt: skip
def test_a_text_is_told_without_what_stands_behind_the_name_of_a_secret(text: str, told: str) -> None:
    assert REDACTION.text(text) == told


def test_what_is_nested_too_deep_to_be_looked_into_is_hidden() -> None:
    deep: Any = {"token": "abc"}
    for _ in range(300):
        deep = [deep]
    assert b"abc" not in REDACTION.json(codec.encode(deep))


def test_a_site_with_no_patterns_hides_nothing() -> None:
    nothing, value = Redaction(()), {"password": "abc"}
    assert nothing.of(value) == value
    assert read({"BUS_REDACT": ""})[0].redact == ()
    assert read({})[0].redact == DEFAULT
    assert read({"BUS_REDACT": "*token, iban"})[0].redact == ("*token", "iban")


@pytest.mark.parametrize("pattern", ["Password", "a b", "*", "[ab]", "a-b"])
def test_a_pattern_that_no_key_can_have_is_refused_by_name(pattern: str) -> None:
    with pytest.raises(ConfigError, match=r"BUS_REDACT: .* is no pattern of keys: write small letters"):
        Settings(redact=(pattern,))


def test_what_was_hidden_is_put_back_where_it_was() -> None:
    original = {"n": 1, "card": {"token": "abc", "year": 2026}, "cards": [{"token": "a"}, {"token": "b"}]}
    shown = REDACTION.plain(original)
    assert REDACTION.put_back(shown, original) == original
    edited = {**shown, "n": 2, "card": {**shown["card"], "year": 2027}}
    assert REDACTION.put_back(edited, original) == {**original, "n": 2, "card": {"token": "abc", "year": 2027}}


@pytest.mark.parametrize(
    ("edited", "field"),
    [
        ({"note": MASK}, "data.note"),
        ({"cards": [{"token": MASK}]}, r"data.cards\[0\].token"),
        ({"cards": [{"token": MASK}, {"token": MASK}, 3]}, r"data.cards\[0\].token"),
        ({"card": {"other": f"as {MASK}"}}, "data.card.other"),
    ],
)
def test_a_mask_that_was_moved_is_refused_and_never_data(edited: Any, field: str) -> None:
    original = {"card": {"token": "abc"}, "cards": [{"token": "a"}, {"token": "b"}]}
    with pytest.raises(EventInvalid, match=f"{field}.*stands for a value that your role does not see"):
        REDACTION.put_back(edited, original)


FIELDS = Redaction(["*token"], {"user.created": ("email", "card.number")})
EVENT: dict[str, Any] = {
    "id": "1",
    "name": "user.created",
    "data": {"email": "a@b", "card": {"number": 1, "year": 2}, "cards": [{"card": {"number": 3}}], "number": 4},
    "ts": 1,
}
SHOWN = {
    **EVENT,
    "data": {"email": MASK, "card": {"number": MASK, "year": 2}, "cards": [{"card": {"number": MASK}}], "number": 4},
}


def test_the_fields_that_an_event_type_names_are_hidden_of_events_of_its_name_wherever_they_are() -> None:
    assert FIELDS.plain(EVENT) == SHOWN
    assert FIELDS.plain({"result": [EVENT]}) == {"result": [SHOWN]}
    other = {**EVENT, "name": "user.gone"}
    assert FIELDS.plain(other) is other


def test_what_belongs_to_a_run_hides_the_same_fields_as_its_event() -> None:
    within = FIELDS.of_event(codec.encode(EVENT))
    assert within.plain({"user": {"email": "a@b"}, "token": 1}) == {"user": {"email": MASK}, "token": MASK}
    assert within.text("no user with email=a@b") == f"no user with email={MASK}"
    assert FIELDS.plain({"email": "a@b"}) == {"email": "a@b"}
    assert FIELDS.of_any.plain({"email": "a@b"}) == {"email": MASK}
    assert FIELDS.text("of nobody's run: number: 3, n=4") == f"of nobody's run: number: {MASK}, n=4"
    batch = codec.encode({**EVENT, "name": "x", "batch": [{"name": "y"}, EVENT]})
    assert FIELDS.of_event(batch).plain({"email": "a@b"}) == {"email": MASK}


@pytest.mark.parametrize(
    ("before", "edited"), [(1, True), (0, False), (True, 1), (1, 1.0), ([{"a": 0}], [{"a": False}])]
)
def test_an_edit_that_python_takes_for_no_other_value_is_not_lost(before: Any, edited: Any) -> None:
    original = {"token": "abc", "n": {"of": before}}
    given = {"token": MASK, "n": {"of": edited}}
    assert codec.encode(REDACTION.put_back(given, original)) == codec.encode({"token": "abc", "n": {"of": edited}})


def test_rules_are_read_as_they_were_written() -> None:
    read_again = redaction_of(FIELDS.rules)
    assert (read_again.rules, read_again.plain(EVENT)) == (FIELDS.rules, SHOWN)


def test_fields_are_given_by_their_names_in_python_or_in_json() -> None:
    class Paid(EventData, name="order.paid", redact=["card_number", "cardHolder.name"], rename="camel"):
        card_number: str
        card_holder: dict[str, str]

    class PaidAgain(Paid, name="order.paid.again", rename="camel"):
        """It hides what the first one does."""

    @event("order.sent", redact=["address.street"])
    class Sent(TypedDict):
        address: dict[str, str]

    assert Paid.redacted == PaidAgain.redacted == ("cardNumber", "cardHolder.name")
    assert schema_of(Sent).redacted == ("address.street",)


@pytest.mark.parametrize(
    ("redact", "told"),
    [
        (["mail"], "class Wrong: redact 'mail': it has no field 'mail', but email"),
        ("email", "class Wrong: redact must be a list of fields, got the text 'email'"),
        (["e mail"], "redact 'e mail' is no field"),
        ([""], "redact '' is no field"),
        ([3], "redact 3 is no field"),
    ],
)
def test_what_is_no_field_of_the_type_is_refused_by_name(redact: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):

        class Wrong(EventData, name="wrong", redact=redact):  # type: ignore[reportUnusedClass]
            email: str


def test_what_a_condition_saw_is_somebodys_data() -> None:
    seen = {"event.data.token": "abc", "event.data.user": {"token": "abc", "n": 1}, "event.data.n": 1}
    assert REDACTION.of(seen) == {
        "event.data.token": MASK,
        "event.data.user": {"token": MASK, "n": 1},
        "event.data.n": 1,
    }


def test_a_key_whose_letters_are_written_as_numbers_is_hidden_too() -> None:
    assert REDACTION.json(b'{"pass\\u0077ord":"abc"}') == b'{"password":"[redacted]"}'
    of_name = Redaction(["*token"], {"a": ("größe",)}).of_event(b'{"name":"a"}')
    assert of_name.json('{"größe":1,"gr\\u00f6ße":1}'.encode()) == '{"größe":"[redacted]"}'.encode()


@pytest.mark.parametrize("key", [" password", "password ", "api.key", "password\n"])
def test_a_key_with_blanks_around_it_or_dots_in_it_hides_as_well(key: str) -> None:
    assert REDACTION.plain({key: "abc"}) == {key: MASK}


def test_a_password_in_an_address_whose_slashes_are_escaped_is_hidden_too() -> None:
    raw = rb'{"dsn":"postgres:\/\/user:hunter2@host\/db"}'
    assert REDACTION.json(raw) == b'{"dsn":"postgres://user:[redacted]@host/db"}'


def test_brackets_that_nothing_closes_are_looked_through_once() -> None:
    told = REDACTION.text("token=(" * 100_000)
    assert told == f"token={MASK}"
