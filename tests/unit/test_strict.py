"""Strict JSON, against a slow and obvious reading of the same text, and how long the worst texts take. No Redis."""

import contextlib
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stepstream.bus.errors import EventInvalid
from stepstream.bus.values import codec
from stepstream.producers.ingest import take_events
from stepstream.producers.strict import MAX_DEPTH, MAX_DIGITS, parse

ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class Wrong(Exception):
    pass


class Slow:
    """JSON read letter by letter, with every rule where one expects it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def whole(self) -> Any:
        value = self.value(0)
        self.blank()
        if self.at != len(self.text):
            raise Wrong("trailing")
        return value

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def take(self, wanted: str) -> None:
        if not self.text.startswith(wanted, self.at):
            raise Wrong(f"no {wanted}")
        self.at += len(wanted)

    def blank(self) -> None:
        while self.peek() and self.peek() in " \t\n\r":
            self.at += 1

    def value(self, depth: int) -> Any:
        self.blank()
        first = self.peek()
        if first in ("[", "{") and depth == MAX_DEPTH:
            raise Wrong("deep")
        if first == "[":
            return [value for _, value in self.several("[", "]", depth)]
        if first == "{":
            pairs = self.several("{", "}", depth)
            if len({key for key, _ in pairs}) != len(pairs):
                raise Wrong("twice")
            return dict(pairs)
        if first == '"':
            return self.string()
        for word, value in (("true", True), ("false", False), ("null", None)):
            if first == word[0]:
                self.take(word)
                return value
        return self.number()

    def several(self, begin: str, end: str, depth: int) -> list[tuple[str, Any]]:
        self.take(begin)
        found: list[tuple[str, Any]] = []
        self.blank()
        if self.peek() == end:
            self.take(end)
            return found
        while True:
            key = ""
            if begin == "{":
                self.blank()
                key = self.string()
                self.blank()
                self.take(":")
            found.append((key, self.value(depth + 1)))
            self.blank()
            if self.peek() == end:
                self.take(end)
                return found
            self.take(",")

    def string(self) -> str:
        self.take('"')
        units: list[int] = []
        while self.peek() != '"':
            letter = self.peek()
            if not letter or letter < " ":
                raise Wrong("string")
            self.at += 1
            if letter != "\\":
                units.append(ord(letter))
                continue
            kind = self.peek()
            self.at += 1
            if kind in ESCAPES and kind:
                units.append(ord(ESCAPES[kind]))
            elif kind == "u":
                digits = self.text[self.at : self.at + 4]
                if len(digits) != 4 or any(one not in "0123456789abcdefABCDEF" for one in digits):
                    raise Wrong("escape")
                self.at += 4
                units.append(int(digits, 16))
            else:
                raise Wrong("escape")
        self.take('"')
        text = "".join(map(chr, units))
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            raise Wrong("surrogate") from None

    def digits(self) -> str:
        begin = self.at
        while self.peek() and self.peek() in "0123456789":
            self.at += 1
        if begin == self.at:
            raise Wrong("digits")
        return self.text[begin : self.at]

    def number(self) -> int | float:
        begin = self.at
        if self.peek() == "-":
            self.at += 1
        whole = self.digits()
        if len(whole) > 1 and whole[0] == "0":
            raise Wrong("leading zero")
        is_whole = True
        if self.peek() == ".":
            self.at += 1
            self.digits()
            is_whole = False
        if self.peek() in ("e", "E"):
            self.at += 1
            if self.peek() in ("+", "-"):
                self.at += 1
            self.digits()
            is_whole = False
        text = self.text[begin : self.at]
        if is_whole:
            if len(whole) > MAX_DIGITS:
                raise Wrong("many digits")
            return int(text)
        if float(text) in (float("inf"), float("-inf")):
            raise Wrong("big")
        return float(text)


def slowly(body: bytes) -> Any:
    """Return the value of a body; Wrong when it is to be refused."""
    try:
        return Slow(body.decode()).whole()
    except UnicodeDecodeError:
        raise Wrong("UTF-8") from None


BLANK = st.sampled_from(["", "", "", " ", "\n\t ", "\r"])
LETTER = st.sampled_from(
    ['\\"', "\\\\", "\\/", "\\n", "\\u0041", "\\ud83d\\ude00", "\\ud800", "\\u", "\\x", "a", "é", "{", "]", ":"]
)
STRING = st.lists(LETTER, max_size=6).map(lambda letters: f'"{"".join(letters)}"')
NUMBER = st.sampled_from(
    ["0", "-0", "-1", "01", "1.5", "1.", ".5", "1e5", "1E-400", "1e999", "-1e999", "NaN", "-Infinity", "9" * 64, "9" * 65, "1" * 5000]
)  # fmt: skip
WORD = st.sampled_from(["null", "true", "false", "nul", "True", ""])
KEY = st.sampled_from(['"a"', '"\\u0061"', '"b"', '"c"', "a", '""'])


def listed(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(lambda blank, parts: f"[{blank}{','.join(parts)}]", BLANK, st.lists(inner, max_size=4))


def objects(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.builds(lambda key, blank, value: f"{blank}{key}{blank}:{value}", KEY, BLANK, inner)
    return st.lists(pair, max_size=4).map(lambda pairs: f"{{{','.join(pairs)}}}")


def nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    def around(depth: int, begin: str, value: str) -> str:
        return begin * depth + value + ("]" if begin == "[" else "}") * depth

    depths = st.sampled_from([1, 3, 62, 63, 64, 65, 900, 2000])
    return st.builds(around, depths, st.sampled_from(["[", '{"a":']), inner)


TEXT = st.recursive(STRING | NUMBER | WORD, lambda inner: listed(inner) | objects(inner) | nested(inner), max_leaves=8)
BODY = st.builds(
    lambda before, text, after: before + text + after, BLANK, TEXT, st.sampled_from(["", "", " ", "x", ","])
)


@settings(max_examples=100, deadline=None)
@given(BODY.map(str.encode) | st.binary(max_size=12))
@example(b"[" * 64 + b"]" * 64)
@example(b"[" * 65 + b"]" * 65)
@example(b"[" * 64 + b"{}" + b"]" * 64)
@example(b'"' + b'\\"' * 50)
@example(b'{"a":{"b":1,"c":2,"b":3}}')
@example(b'"\\ud83d\\ude00"')
@example(b'"\\ude00\\ud83d"')
@example(b"\xef\xbb\xbf1")
def test_a_text_is_taken_or_refused_as_a_slow_reader_of_the_rules_would_and_every_reader_of_ours_takes_it(
    body: bytes,
) -> None:
    try:
        wanted = slowly(body)
    except Wrong:
        with pytest.raises(EventInvalid):
            parse(body)
        return
    assert parse(body) == wanted
    assert codec.decode(body) == wanted


@given(TEXT)
def test_the_data_of_an_event_is_stored_byte_by_byte_or_not_at_all(text: str) -> None:
    try:
        taken = take_events(f'{{"name":"a","data" :{text} }}'.encode(), None)
    except EventInvalid:
        return
    if taken.error is None:
        assert taken.events[0].data.decode() == (text.strip() if text.strip() != "null" else "{}")


WORST = {
    "an unterminated string of quotes": lambda n: b'"' + b'\\"' * (n // 2),
    "a string of quotes": lambda n: b'"' + b'\\"' * (n // 2) + b'"',
    "a string of backslashes": lambda n: b'"' + b"\\\\" * (n // 2) + b'"',
    "strings without end": lambda n: b'"\\' * (n // 2),
    "opened only": lambda n: b"[" * n,
    "objects opened only": lambda n: b'{"a":' * (n // 5),
    "digits": lambda n: b"1" * n,
    "digits behind a point": lambda n: b"0." + b"1" * n,
    "an endless exponent": lambda n: b"1e" + b"1" * n,
    "blanks": lambda n: b" " * n,
    "commas": lambda n: b"[" + b"," * n,
    "escapes of surrogates": lambda n: b'"' + b"\\ud800" * (n // 6) + b'"',
}  # fmt: skip


@pytest.mark.parametrize("worst", WORST.values(), ids=WORST.keys())
@pytest.mark.parametrize("size", [32_000, 16_000_000])
def test_the_worst_texts_cost_milliseconds_at_32_kb_and_a_moment_at_16_mb(worst: Any, size: int) -> None:
    body, most = worst(size), 0.2 if size < 100_000 else 2

    def seconds() -> float:
        began = time.process_time()
        with contextlib.suppress(EventInvalid):
            parse(body)
        return time.process_time() - began

    assert any(seconds() < most for _ in range(3)), "three times: the garbage of all tests may be collected meanwhile"
