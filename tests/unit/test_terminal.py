"""What commands print cannot steer the terminal."""

import json

import pytest

from stepstream.bus.process.terminal import plain, say_json


@pytest.mark.parametrize("letter", ["\x1b", "\x07", "\x7f", "\x9b", "\r", "\n", "\u202e", "\u2028", "\U000e0001"])
def test_a_terminal_does_not_obey_what_is_printed(letter: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert plain(f"a{letter}[31mb") == "a [31mb"
    value = {"name": f"a{letter}[31mb", "text": "grün 木"}
    say_json(json.dumps(value, ensure_ascii=letter < " ").encode())
    printed = capsys.readouterr().out
    assert letter not in printed.removesuffix("\n")
    assert json.loads(printed) == value


def test_json_on_several_lines_stays_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    say_json(b'{\n  "a": 1\n}')
    assert capsys.readouterr().out == '{\n  "a": 1\n}\n'
