"""Lua scripts: each lies in a folder `lua` beside the module that calls it, and is known to the server by its SHA-1.

    _END = script(__file__, "run_end")  # lua/run_end.lua, beside this file
    await wire.script(_END, keys, *arguments)

A script begins with its header and, when it needs them, a line `-- uses: fence index`: those fragments, and those they
use themselves, are put before its body once, because Lua has no includes. A fragment lies in `lua/fragments` of the
script's own folder, of the folder above, or of this one. `-- flags: allow-oom` lets a script write when memory is full:
what a worker has done must be recorded, or it is done again. User text is only ever KEYS and ARGV.

Nothing is read by its number. A script's header names its arguments in order (`args.run  the run`), a line
`-- item: run fence` those that come once for each item of a batch, and `-- hash h: status turn *given_up` the fields of
a hash that one HMGET reads into `h` (those with a star are written out in the command; `+ending` stands for the fields
of `ending`, which a fragment declares and is handed). When a script is joined these
names are folded into numbers, so they cost nothing:

    args.run     ARGV[2]              the first argument, args.now, is the moment the script acts at
    args.rest    3                    where what follows the named arguments begins
    item.fence   ARGV[a + 1]          of the item that begins at `a`
    item.first, item.width            3, 2: for `each`
    fields.h     'status', 'turn'     what HMGET is given
    h.turn       h[2]
    texts.gone   'what a module gives as texts={"gone": …}', said in Python and in Lua alike
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

_USES = re.compile(r"^-- uses: ([a-z_ ]+)$", re.MULTILINE)
_FLAGS = re.compile(r"^-- flags: ([a-z-]+)$", re.MULTILINE)
_ARGS = re.compile(r"^args\.(\w+)  ", re.MULTILINE)
_ITEM = re.compile(r"^-- item: ([a-z_ ]+)$", re.MULTILINE)
_HASH = re.compile(r"^-- hash (\w+): ([a-z_*+ ]+)$", re.MULTILINE)
_HERE = Path(__file__).parent
_registered: dict[str, "Script"] = {}


class Script:
    """One script: its name and, made when first asked for, its whole text and the SHA-1 the server knows it by."""

    def __init__(
        self, folder: Path, name: str, item: type[Any] | None = None, texts: Mapping[str, bytes] | None = None
    ) -> None:
        self.name = name
        self._texts = {text: _quoted(given.decode()) for text, given in (texts or {}).items()}
        self.folder = folder
        self._item = item

    @cached_property
    def text(self) -> str:
        """The fragments it uses and its body, as the server gets them."""
        return "\n".join(self.parts)

    @cached_property
    def parts(self) -> list[str]:
        """Its first line, the fragments it uses, and its body."""
        body = (self.folder / "lua" / f"{self.name}.lua").read_text()
        self._check_item(body)
        flags = _FLAGS.search(body)
        head = f"#!lua flags={flags[1]}" if flags else "#!lua"
        parts = [*dict.fromkeys(self._used(body)), body]
        hashes = {name: fields for part in parts for name, fields in _HASH.findall(part)}
        return [head, *(_folded(part, hashes, self._texts, self.name) for part in parts)]

    @cached_property
    def shared(self) -> "Script":
        """The script by which several calls of this one, which only reads, are one call: each has its own answer.

        Its keys are those of all calls; its arguments of each how many keys and arguments it has, and these. A call
        answers {answer}, {} for nothing, or {'error', why}.
        """
        return _Shared(self)

    @cached_property
    def sha(self) -> str:
        """The SHA-1 of its text."""
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def _check_item(self, body: str) -> None:
        """Raise ValueError when the type whose values are packed has other fields than the script reads."""
        read = _words(_ITEM, body)
        packed = getattr(self._item, "__struct_fields__", getattr(self._item, "_fields", ()))
        if read != list(packed):
            raise ValueError(f"script {self.name} reads items of {read}, and is sent {list(packed)}")

    def _used(self, text: str) -> Iterator[str]:
        """Yield the fragments a text needs, each after those it needs itself."""
        used = _USES.search(text)
        for name in used[1].split() if used else ():
            fragment = self._fragment(name)
            yield from self._used(fragment)
            yield fragment

    def _fragment(self, name: str) -> str:
        for folder in (self.folder, self.folder.parent, _HERE):
            path = folder / "lua" / "fragments" / f"{name}.lua"
            if path.exists():
                return path.read_text()
        raise FileNotFoundError(f"script {self.name} uses {name}: no such fragment")


class _Shared(Script):
    """A script whose body is called once for each of several calls."""

    def __init__(self, one: Script) -> None:
        super().__init__(one.folder, one.name)
        self._one = one

    @cached_property
    def text(self) -> str:
        """What the server gets: within `one`, KEYS and ARGV are those of one call."""
        *before, body = self._one.parts
        return "\n".join([*before, "local function one(KEYS, ARGV)", body, "end", _EACH_CALL])


_EACH_CALL = """local answers, key, a = {}, 0, 2
while a < #ARGV do
  local keys, given, first = {}, { ARGV[1] }, a + 2
  for i = 1, tonumber(ARGV[a]) do
    keys[i] = KEYS[key + i]
  end
  key, a = key + #keys, first + tonumber(ARGV[a + 1])
  for i = first, a - 1 do
    given[#given + 1] = ARGV[i]
  end
  local ok, answer = pcall(one, keys, given)
  answers[#answers + 1] = ok and { answer } or { 'error', type(answer) == 'table' and answer.err or tostring(answer) }
end
return answers
"""


def _words(pattern: re.Pattern[str], text: str) -> list[str]:
    found = pattern.search(text)
    return found[1].split() if found else []


def _quoted(text: str) -> str:
    """Return text as Lua writes it."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


def _folded(text: str, shared: dict[str, str], texts: dict[str, str], script: str) -> str:
    """Return a text with numbers in place of the names it declares; ValueError for one that it does not."""
    args, item, hashes = _ARGS.findall(text), _words(_ITEM, text), dict(_HASH.findall(text))
    rest = len(args) + 1
    names = {
        "args": {"rest": str(rest)} | {name: f"ARGV[{n}]" for n, name in enumerate(args, 1)},
        "item": {"first": str(rest), "width": str(len(item))}
        | {name: f"ARGV[a + {n}]" if n else "ARGV[a]" for n, name in enumerate(item)},
        "fields": {},
        "texts": texts,
    }
    for name, listed in hashes.items():
        fields = " ".join(shared[word[1:]] if word[0] == "+" else word for word in listed.split()).split()
        names["fields"][name] = ", ".join(f"'{field}'" for field in fields if field[0] != "*")
        names[name] = {field.lstrip("*"): f"{name}[{n}]" for n, field in enumerate(fields, 1)}

    def number(found: re.Match[str]) -> str:
        try:
            return names[found[1]][found[2]]
        except KeyError:
            raise ValueError(f"script {script}: {found[0]} is not declared") from None

    head, end, body = text.partition("]]\n") if text.startswith("--[[") else ("", "", text)
    return head + end + re.sub(rf"(?<![\w.'])({'|'.join(names)})\.(\w+)", number, body)


def script(file: str, name: str, item: type[Any] | None = None, texts: Mapping[str, bytes] | None = None) -> Script:
    """Return the script `lua/<name>.lua` beside a module (its `__file__`); connections load it when they open.

    `item` is the type, a Struct or a NamedTuple, whose values are packed as the script's items; `texts` are words that
    the script says too.
    """
    made = Script(Path(file).parent, name, item, texts)
    known = _registered.setdefault(name, made)
    if known.folder != made.folder:
        raise ValueError(f"two scripts are called {name}: in {known.folder} and in {made.folder}")
    return known


def registered() -> tuple[Script, ...]:
    """Return every script of the modules that were imported so far."""
    return tuple(_registered.values())
