"""Hidden: what lines of a process's log do not tell: what stands under the name of a secret, and what types hide."""

from typing import Any

import pytest

from stepstream import Bus, Context, EventData, Step
from stepstream.bus.observe.hidden import Hidden
from stepstream.bus.trust.redaction import MASK


class Paid(EventData, name="paid", redact=["email", "card.number", "event"]):
    email: str
    card: dict[str, str]
    password: str
    event: str = ""


PAID = Paid("ada@private.example", {"number": "4111", "cvv": "1"}, "hunter2")


@pytest.fixture
def hidden() -> Hidden:
    app = Bus("shop")

    @app.function("f", on=Paid)
    async def f(ctx: Context[Paid], step: Step) -> None: ...

    made = Hidden()
    made.fields(f.redacted)
    return made


def line(hidden: Hidden, **fields: Any) -> dict[str, Any]:
    return hidden.line(None, "info", fields)


def test_fields_that_an_event_type_hides_are_in_no_line(hidden: Hidden) -> None:
    told = line(hidden, event="paid by email=ada@private.example", email="ada", card={"number": "4111", "cvv": "1"})
    assert told == {"event": f"paid by email={MASK}", "email": MASK, "card": {"number": MASK, "cvv": "1"}}


def test_a_value_that_is_no_json_is_hidden_as_python_writes_it(hidden: Hidden) -> None:
    """`log.info("paid", data=ctx.event.data)` told all of it: renderers write an object by its repr."""
    shown = f"Paid(email='{MASK}', card={{'number': '{MASK}', 'cvv': '1'}}, password='{MASK}', event='{MASK}')"
    assert line(hidden, data=PAID, several=(PAID, [PAID]), inner={"of": PAID}) == {
        "data": shown, "several": [shown, [shown]], "inner": {"of": shown},
    }  # fmt: skip
    assert line(hidden, error=ValueError("password=hunter2"), raw=b'{"password": "hunter2"}') == {
        "error": f"ValueError('password={MASK}')", "raw": f"b'{{\"password\": \"{MASK}\"}}'",
    }  # fmt: skip


def test_an_object_that_tells_no_secret_is_left_to_whoever_writes_the_line(hidden: Hidden) -> None:
    given = object()
    assert line(hidden, given=given)["given"] is given


def test_what_a_line_says_stays_where_a_types_field_has_its_name(hidden: Hidden) -> None:
    assert line(hidden, event="run ended", run="r") == {"event": "run ended", "run": "r"}


def test_other_patterns_keep_what_types_have_named(hidden: Hidden) -> None:
    hidden.patterns(["iban"])
    assert line(hidden, iban="DE1", password="p", email="e") == {"iban": MASK, "password": "p", "email": MASK}


def test_a_line_that_holds_itself_ends(hidden: Hidden) -> None:
    given: list[Any] = []
    given.append(given)
    line(hidden, given=given)
