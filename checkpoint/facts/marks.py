"""Marks: which errors are one and the same, however often they come and whatever their message says.

An error's mark is made of its name and of where the author's code raised it: the file and the function, and no line, so
it stays the same when other lines change.
"""

import hashlib
import re

import msgspec

from stepstream.bus.values import codec

LETTERS = 12
"""How long a mark is; the scripts cut as many letters off (fragment `facts`)."""
_LONGEST_MESSAGE = 300
_PYTHON = re.compile(r'^[ |+]*File "(?P<file>[^"\n]+)", line \d+, in (?P<name>.+)$', re.MULTILINE)
_JAVASCRIPT = re.compile(
    r"^\s*at (?:async )?(?:(?P<name>[^(\n]+?) \((?P<file>[^()\n]+?)(?::\d+){0,2}\)|(?P<alone>\S+?)(?::\d+){1,2})$",
    re.MULTILINE,
)
_INSTALLED = ("site-packages", "dist-packages", "/lib/python3", "<frozen", "node_modules", "node:")
"""In the path of what the author has only installed."""


class About(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is told of an error: its name, where it was raised (`shop/orders.py: charge`, or empty), and its message."""

    name: str
    frame: str = ""
    message: str = ""


def frame_of(stack: str) -> str:
    """Return where an error was raised, as its stack tells: the nearest frame that the author wrote, without its line.

    Where none is the author's (all of it is installed), the frame from which the rest was called.
    """
    found = [(one["file"], one["name"]) for one in _PYTHON.finditer(stack)]
    if not found:  # an SDK's for TypeScript tells the innermost first
        found = [(one["file"] or one["alone"], one["name"] or "") for one in _JAVASCRIPT.finditer(stack)][::-1]
    if not found:
        return ""
    own = [one for one in found if not any(word in one[0] for word in _INSTALLED)]
    file, name = own[-1] if own else found[0]
    short = "/".join(re.split(r"[/\\]", file)[-2:])  # where a project is installed differs by machine
    return f"{short}: {name}" if name else short


def told_of(name: str, message: str, stack: str = "") -> str:
    """Return an error's mark, and behind it, JSON, what is told of it (About)."""
    frame = frame_of(stack)
    about = About(name, frame, message.strip()[:_LONGEST_MESSAGE])
    return mark_of(name, frame) + codec.encode(about).decode()


def is_like_a_mark(text: str) -> bool:
    """Whether a text may be a mark, and no name only."""
    return len(text) == LETTERS and not set(text) - set("0123456789abcdef")


def mark_of(name: str, frame: str) -> str:
    """Return the mark of an error of this name that was raised there."""
    return hashlib.sha256(f"{name}\n{frame}".encode()).hexdigest()[:LETTERS]
