"""Spoilt keys: another type of value has their name, written by hand. Reads for people pass over them, and tell which.

    with spoilt_told() as spoilt:       # who shows something to a person
        view = await read(…)            # wire.look, load, look_script and big reads: as if such a key were not there
    spoilt                              # {"bus:events:{order/paid}"}: what is shown is without what they would hold

Outside it nothing is passed over: who acts, and the engine, get the error. A script is run again only when it has met
such a key, so all this costs nothing where there is none.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import TYPE_CHECKING, Any

from stepstream.bus.errors import KeyMissing, WrongType
from stepstream.bus.values import codec
from stepstream.bus.wire.scripts import Script

if TYPE_CHECKING:
    from stepstream.bus.wire.connection.pipeline import Argument

_COUNTS = ("ZCARD", "ZCOUNT", "XLEN", "HLEN", "LLEN", "SCARD", "STRLEN")
_SINGLE = ("GET", "HGET", "ZSCORE")
_SEVERAL = ("HMGET", "ZMSCORE")
_SCANS = ("HSCAN", "ZSCAN", "SSCAN")
_told: ContextVar[set[str] | None] = ContextVar("spoilt", default=None)


@contextmanager
def spoilt_told() -> Generator[set[str]]:
    """Let reads pass over keys of a wrong type, and collect these keys; within another, that one has them too."""
    before, found = _told.get(), set[str]()
    token = _told.set(found)
    try:
        yield found
    finally:
        _told.reset(token)
        if before is not None:
            before |= found


def pass_over(what: str) -> None:
    """Tell of something else that a read leaves out, in words: a field of a key that holds no such value.

    Whoever shows what was read says so to the person (`told_of`), who else takes what is missing for what is not there.
    Outside of `spoilt_told` nobody is told, and nothing happens: who decides raises an error of its own.
    """
    found = _told.get()
    if found is not None:
        found.add(what)


def spoilt_now() -> set[str] | None:
    """Return the keys that were passed over so far; None where they are not passed over."""
    return _told.get()


def told_of(key: str) -> str:
    """Return the sentence by which a page or a command tells a person of what was passed over."""
    return f"{key} holds another kind of value than Stepstream writes there: what it should tell is missing here"


def instead(error: WrongType, command: "Sequence[Argument]") -> Any:
    """Return what a read of one key answers when there is no such key; the error where it is not to be passed over."""
    found, name = _told.get(), command[0]
    if found is None:
        raise error
    found.add(str(command[2] if name == "XINFO" else command[1]))
    if name == "XINFO":
        raise KeyMissing(str(error)) from error
    if name in _SCANS:
        return [b"0", []]
    return (
        0 if name in _COUNTS else None if name in _SINGLE else [None] * (len(command) - 2) if name in _SEVERAL else []
    )


def answer_of(reply: Any) -> Any:
    """Return what a script has answered that was told to pass over such keys."""
    answer, keys = reply
    found = _told.get()
    assert found is not None
    found.update(map(codec.text, keys))
    return answer


class PassingOver(Script):
    """A script that reads, and that passes over keys of a wrong type: it answers {what it answers, these keys}."""

    def __init__(self, one: Script) -> None:
        super().__init__(one.folder, one.name)
        self._one = one

    @cached_property
    def text(self) -> str:
        """What the server gets: within it `redis.call` is one that passes over."""
        head, *before, body = self._one.parts
        return "\n".join([head, _CALL, *before, "local function one()", body, "end", _ANSWER])


def _lua(names: Sequence[str]) -> str:
    return "{ " + ", ".join(f"{name} = true" for name in names) + " }"


_CALL = f"""local spoilt, COUNTS, SINGLE = {{}}, {_lua(_COUNTS)}, {_lua(_SINGLE)}
local SEVERAL, SCANS = {_lua(_SEVERAL)}, {_lua(_SCANS)}
local redis = setmetatable({{ call = function(command, ...)
  local reply, given = redis.pcall(command, ...), {{ ... }}
  if type(reply) ~= 'table' or not reply.err then
    return reply
  end
  if string.sub(reply.err, 1, 9) ~= 'WRONGTYPE' then
    error(reply)
  end
  spoilt[#spoilt + 1] = command == 'XINFO' and given[2] or given[1]
  local empty = SCANS[command] and {{ '0', {{}} }} or {{}}
  for i = 2, SEVERAL[command] and #given or 0 do
    empty[i - 1] = false
  end
  return COUNTS[command] and 0 or not SINGLE[command] and empty
end }}, {{ __index = redis }})"""

_ANSWER = """local answer = one()
if answer == nil then
  answer = false
end
return { answer, spoilt }
"""
