"""What commands print cannot steer the terminal."""

import json
import subprocess
import sys
import textwrap

import pytest

from stepstream.bus.observe import log
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


def test_what_a_process_says_of_itself_is_a_line_of_its_log(capsys: pytest.CaptureFixture[str]) -> None:
    """A worker with BUS_LOG_FORMAT=json said "works on", and that it drains, in plain words between lines of JSON."""
    log.tell("json", "stopped", level="warning", page="http://x")
    log.tell("auto", "and so where it is no terminal")
    log.tell("text", "Stepstream dev", shown="Stepstream dev\n  page     http://x", page="http://x")
    first, second, *shown = capsys.readouterr().err.splitlines()
    told = json.loads(first)
    assert (told["event"], told["level"], told["page"]) == ("stopped", "warning", "http://x")
    assert {"event", "level", "timestamp"} == {*json.loads(second)}
    assert shown == ["Stepstream dev", "  page     http://x"]


def test_text_that_looks_like_a_line_of_the_log_or_commands_a_terminal_is_none() -> None:
    """An exception's own escape sequences reached the terminal, in its traceback."""
    code = """
        import structlog
        from stepstream.bus.observe import log
        from stepstream.bus.settings import Settings

        log.configure(Settings(log_format="text"))
        structlog.get_logger().warning("failed", error="x\\n2026 [info] fake \\x1b[2J", run="r\\x07")
        try:
            raise ValueError("first \\x1b]0;title\\x07 \\u202e")
        except ValueError:
            structlog.get_logger().exception("broke")
        log.tell("text", "told \\x1b[31m")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert "ValueError: first" in done.stderr
    assert all(line.isprintable() for line in done.stderr.splitlines())
    assert [line for line in done.stderr.split("\n") if line.startswith("2026 ")] == []
