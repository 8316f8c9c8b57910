"""Refusals: is an error reply about the command itself, or about the state of the server?

Only a few, known replies are about the command: repeating it would not help. Every other one, including words nobody
has heard of (a proxy's, a hosted server's), is a state that passes and is waited out.
"""

import re

from stepstream.bus.errors import (
    BusError,
    GroupMissing,
    KeyMissing,
    RightMissing,
    ScriptMissing,
    StoreError,
    StoreUnavailable,
    WrongType,
)
from stepstream.bus.wire.keys.prefixed import prefix

ELSEWHERE = frozenset({"READONLY", "MASTERDOWN", "UNBLOCKED", "LOADING", "NOREPLICAS", "NOAUTH"})
"""Said by a server that does not, or no longer, serve us: the address may lead to another one by now."""

_ABOUT_US = frozenset({"BUSYGROUP", "CROSSSLOT"})
# What follows ERR when it is about a command's arguments or one of our scripts.
_ARGUMENTS = re.compile(
    r"syntax error|wrong number of arg|invalid |unrecognized |unbalanced |number of keys|protocol error|"
    r"value is |hash value |resulting score|timeout is |count (must|should) be |string exceeds|index out of range|"
    r"db index|increment or decrement|min or max |the (id specified|xgroup subcommand|stream has exhausted)|"
    r"error compiling script|error running script|lua redis lib|user_script:",
    re.IGNORECASE,
)
_NO_COMMAND = re.compile(r"unknown (sub)?command", re.IGNORECASE)
_OTHER_KEYS = re.compile(r"permissions to access (one of the|a) key")
_IN_SCRIPT = re.compile(r" on @user_script:\d+")
_KILLED = re.compile(r".*script killed by user", re.IGNORECASE)


def translated(text: str) -> BusError:
    """Return the BusError for an error reply. Its first *word* decides: BUSY is not BUSYGROUP."""
    word, _, rest = text.partition(" ")
    if word == "NOSCRIPT":
        return ScriptMissing(text)
    if word == "WRONGTYPE":
        return WrongType(text)
    if word == "NOGROUP":
        return GroupMissing(text)
    if word == "ERR" and rest.startswith("no such key"):
        return KeyMissing(text)
    if word == "NOPERM" and _OTHER_KEYS.search(rest):
        return RightMissing(
            f"Redis refuses its user a key: keys begin with {prefix()}: here (BUS_PREFIX), and the user's rule must "
            f"name them, as ~{prefix()}:* does (bus doctor --acl): {text}",
            state=word,
        )
    if word == "NOPERM" or (word == "ERR" and _NO_COMMAND.match(rest)):
        return RightMissing(f"Redis refuses a command: {text}", state=word)
    if word in _ABOUT_US or (word == "ERR" and _is_about_us(rest)):
        return StoreError(text)
    return StoreUnavailable(f"Redis cannot serve now: {text}", state=word)


def _is_about_us(text: str) -> bool:
    if _KILLED.match(text):
        return False
    return bool(_ARGUMENTS.match(text) or _IN_SCRIPT.search(text))
