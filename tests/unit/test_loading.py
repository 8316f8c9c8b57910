"""What is told of an app that cannot be loaded: the author's line, and nothing of ours."""

import dataclasses
import re
import sys
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from stepstream import ConfigError, EventData
from stepstream.bus.loading import load
from stepstream.bus.process.importing import BrokenModule, NoSuchName
from stepstream.bus.values.example import example_of
from stepstream.consumers.cli import worked

GOOD = "from stepstream import Bus\napp = Bus('shop')\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield lambda name, text: (tmp_path / f"{name}.py").write_text(text)
    for name in set(sys.modules) - before:
        if name.startswith("one_"):
            del sys.modules[name]


def test_a_module_that_is_not_there_is_what_was_typed(write) -> None:
    write("one_good", GOOD)
    for app in ("one_gone:app", "one_good.part:app", "one_good", "one_good:ap"):
        with pytest.raises(NoSuchName):
            load(app)


@pytest.mark.parametrize(
    ("app", "told"),
    [
        ("one_good", "write for example one_good:app"),
        ("one_good.py", "write for example one_good:app"),
        ("one_good.py:app", "did you mean one_good:app?"),
        ("one_good:Kind", "is a class, not a Bus; did you mean one_good:app?"),
    ],
)
def test_what_was_nearly_right_is_told_with_what_is_right(write, app: str, told: str) -> None:
    write("one_good", f"{GOOD}class Kind: ...\n")
    with pytest.raises(NoSuchName, match=re.escape(told)):
        load(app)


def test_a_worker_does_not_run_what_its_own_module_lets_be_called(write) -> None:
    """It ran the functions beside the application, each with its own way of keeping steps."""
    called = """
from stepstream import serve

@app.function("f", on="order/paid")
async def f(ctx, step): ...

web = serve(app, functions=app.functions.values(), called=True)
"""
    write("one_called", GOOD + called)
    write("one_good", GOOD + called.replace(", called=True", ""))
    assert worked("one_good:app").id == "shop"
    with pytest.raises(ConfigError, match=r"one_called:app is served with called=True.*bus worker --remote"):
        worked("one_called:app")


def test_a_module_that_the_app_misses_is_not(write) -> None:
    """`shop` that imports a missing `sh` was told to be missing itself."""
    write("one_shop", "import one_\n" + GOOD)
    with pytest.raises(
        BrokenModule, match=r"(?s)No module named 'one_'.*one_shop.py\", line 1, in <module>\n    import one_"
    ):
        load("one_shop:app")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def (:\n", 'one_bad.py", line 1'),
        ("x = 1 / 0\n", 'one_bad.py", line 1, in <module>\n    x = 1 / 0'),
        ("import json\njson.loads('{')\n", 'one_bad.py", line 2, in <module>\n    json.loads'),
        (GOOD + "@app.function('f', on='*')\nasync def f(ctx, step): ...\n", 'one_bad.py", line 3, in <module>'),
    ],
)
def test_an_error_of_the_author_is_one_place_of_the_authors(write, text: str, told: str) -> None:
    write("one_bad", text)
    with pytest.raises(BrokenModule) as caught:
        load("one_bad:app")
    assert told in str(caught.value)
    assert str(caught.value).count("File ") == 1
    assert "stepstream/" not in str(caught.value)
    sys.modules.pop("one_bad", None)


class Paid(EventData, name="paid", rename="camel"):
    order_id: str
    cents: int
    how: Literal["card", "cash"]
    lines: list[str]
    note: str = ""


class Model(BaseModel):
    order_id: str = Field(alias="orderId")
    cents: int
    note: str | None = None


@dataclasses.dataclass
class Nested:
    paid: Paid
    model: str | None


class Odd(BaseModel):
    even: int = Field(multiple_of=2)


def test_an_example_fits_its_type() -> None:
    assert example_of(Paid) == {"orderId": "orderId", "cents": 1, "how": "card", "lines": []}
    assert example_of(Model) == {"orderId": "orderId", "cents": 1}
    assert example_of(Nested)["paid"] == example_of(Paid)
    assert example_of(Odd) == {}, "none is found"
