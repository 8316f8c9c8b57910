"""A stack as its reader wants it: the author's own frames first, then what those called in libraries."""

import re
import sysconfig

import msgspec

_FRAME = re.compile(r'^ +File "(?P<file>[^"\n]+)", line \d+.*\n(?:(?! +File ") +.*\n)*', re.MULTILINE)
_LIBRARIES = ("/site-packages/", "/dist-packages/", "/node_modules/", "<frozen ", "node:internal")
_STDLIB = sysconfig.get_path("stdlib")
_PYTHONS = re.compile(r"/lib/python3\.\d+/")
_MOST_CHARS = 16_384


class Stack(msgspec.Struct, frozen=True):
    """A stack: the author's frames, the innermost last, with the error's own line; and `whole`, if there is more."""

    own: str
    whole: str = ""


def told(stack: str) -> Stack:
    """Return a stack as a page shows it. One that is no Python traceback (of a command, of an SDK) is left as it is."""
    text = stack[-_MOST_CHARS:]
    frames = list(_FRAME.finditer(text))
    own = [frame for frame in frames if not _is_library(frame["file"])]
    if not own or len(own) == len(frames):
        return Stack(text)
    last = text[frames[-1].end() :].strip("\n")
    return Stack("".join(frame[0] for frame in own) + last, text)


def _is_library(file: str) -> bool:
    return file.startswith(_STDLIB) or _PYTHONS.search(file) is not None or any(one in file for one in _LIBRARIES)
