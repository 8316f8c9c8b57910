"""Redacted text: what is hidden of a text, of which nobody knows how it was written: it is looked through for keys.

What is hidden of values, whose keys are known: bus/trust/redaction.py.
"""

import re
from collections.abc import Callable

MASK = "[redacted]"
"""What is shown in place of a value that is hidden."""

_HEADERS = ("authorization", "proxy_authorization", "cookie", "set_cookie")
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[- ]")
# A key with what stands behind it, as in JSON, in a repr, in a header and in a query. A quote that nothing closes is
# that of a text that was cut. Each part is bounded, so that no text takes long.
_KEY = re.compile(
    r"""(?<![\w.-])(?P<key>[A-Za-z_][\w.-]{0,63})(?P<between>\\{0,4}["']?\s{0,4}!?(?:=>|[:=]{1,2})\s{0,4})(?=\S)"""
)
_VALUE = re.compile(
    r"""\\{1,4}"[^"\\]*\\{1,4}"|\\{0,4}"(?:[^"\\]|\\.)*(?:"|\\?$)|\\{0,4}'(?:[^'\\]|\\.)*(?:'|\\?$)"""
    r"""|(?:(?:Bearer|Basic|Digest|Token)\s+)?[^\s,;&"'{}\[\]()<>]+""",
    re.IGNORECASE,
)
# A value as Python writes it has a word before it: b'…', SecretStr('…').
_WRITTEN = re.compile(r"""(?:[A-Za-z]{1,2}|[A-Za-z_][\w.]{0,63}\()(?=["'])|[A-Za-z_][\w.]{0,63}(?=\()""")
_BRACKETS = {"{": "}", "[": "]", "(": ")", "<": ">"}
_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|"""
_BRACKET = {sign: re.compile(f"{_QUOTED}[{re.escape(sign + end)}]") for sign, end in _BRACKETS.items()}
# What the story of an event tells of a condition: event.data.token is "abc".
_SEEN = re.compile(
    r"""\b(?P<path>(?:event|async|output)\.[\w.]{1,500}) is (?P<value>(?:[^"\s,]|"(?:[^"\\]|\\.)*(?:"|\\?$))+)"""
)
_BEARER = re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
_USER = re.compile(r"(?<=://)([^\s/:@\"'<>]{0,128}):(?!\*\*\*@)[^\s/\"'<>]{1,512}@")
_LINE = re.compile(r"[^\r\n\"']*")


def text_without(text: str, hides: Callable[[str], bool], hides_path: Callable[[str], bool]) -> str:
    """Return a text without what stands behind a key in it, as in `password=…` and `"token": "…"`.

    `hides` says whether a key names what is hidden, `hides_path` the same of a place in data, as conditions write it:
    `event.data.token`. Passwords in addresses and what follows `Bearer` are hidden too.
    """
    parts: list[str] = []
    end = 0
    for found in _KEY.finditer(text):
        if found.start() < end or not hides(found["key"]):
            continue
        is_header = ":" in found["between"] and in_words(found["key"]) in _HEADERS
        is_quoted = text[found.end()] in "\"'\\"
        # What a header says has blanks and marks in it.
        until = _value_end(text, found.end(), _LINE if is_header and not is_quoted else _VALUE)
        if until > found.end():
            parts += [text[end : found.end()], _masked(text[found.end() : until])]
            end = until
    told = "".join(parts) + text[end:] if parts else text
    if "://" in told:
        told = _USER.sub(rf"\1:{MASK}@", told)

    def seen(found: re.Match[str]) -> str:
        return f"{found['path']} is {MASK}" if hides_path(found["path"]) else found[0]

    if " is " in told:
        told = _SEEN.sub(seen, told)
    small = text.lower()
    return _BEARER.sub(rf"\1 {MASK}", told) if "bearer" in small or "basic" in small else told


def in_words(key: str) -> str:
    """Return a key as patterns are compared with it: in small letters, with `_` between its words."""
    return _WORDS.sub("_", key.strip()).lower()


def _value_end(text: str, start: int, plain: re.Pattern[str]) -> int:
    """Return where a value ends that starts there in a text: with all that is in its brackets, closed or not."""
    word = _WRITTEN.match(text, start) if plain is _VALUE else None
    at = word.end() if word is not None else start
    opening = text[at - 1 : at] if word is not None and word[0].endswith("(") else text[at : at + 1]
    if plain is _VALUE and opening in _BRACKET:
        depth = 0
        for sign in _BRACKET[opening].finditer(text, at if text[at : at + 1] == opening else at - 1):
            depth += 1 if sign[0] == opening else -1 if sign[0] == _BRACKETS[opening] else 0
            if depth == 0:
                return sign.end()
        return len(text)
    value = plain.match(text, at)
    return value.end() if value is not None else start


def _masked(value: str) -> str:
    """Return what stands in place of a value, in the quotes that it has."""
    bare = value.lstrip("\\")
    quote = value[: len(value) - len(bare) + 1] if bare[:1] in ("'", '"') else ""
    return f"{quote}{MASK}{quote}"
