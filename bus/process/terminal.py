"""Terminal: how commands print. A terminal must not obey what a name, a payload or a log says."""

import sys


def plain(text: str) -> str:
    """Return a line without control characters, and without those that turn the writing direction."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else " " for letter in text)


def plain_lines(text: str) -> str:
    """Return lines, as of a traceback, without the control characters in them: blanks stand there."""
    return "\n".join(plain(line.replace("\t", "    ")) for line in text.split("\n"))


def say(line: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{plain(line)}\n")


def say_json(encoded: bytes) -> None:
    """Print JSON. In its texts, control characters are escaped that JSON allows as they are: a terminal obeys them."""
    text = encoded.decode()
    sys.stdout.write(f"{text if text.isprintable() else ''.join(map(_escaped, text))}\n")


def warn(line: str) -> None:
    """Print a line on standard error, where it is in nobody's way."""
    sys.stderr.write(f"bus: {plain(line)}\n")
    sys.stderr.flush()


def _escaped(letter: str) -> str:
    if letter.isprintable() or letter == "\n":
        return letter
    code = ord(letter)
    if code < 0x1_0000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x1_0000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
