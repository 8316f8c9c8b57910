"""How a script is joined: fragments before its body, and names folded into numbers."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from stepstream.bus.wire.scripts import Script
from tests.scripts import all_scripts

BODY = """--[[ grow: a run grows.

args.now  now
args.most  most at once

Returns nothing ]]
-- item: run size
-- hash h: status turn *given_up
-- uses: each
for i = item.first, #ARGV, item.width do
  local h = redis.call('HMGET', item.run, fields.h, 'given_up:a')
  return h.given_up, h.turn, args.most, item.size, args.rest
end
"""


class _Item(NamedTuple):
    run: str
    size: int


def _script(folder: Path, body: str, item: type[Any] | None = _Item) -> Script:
    (folder / "lua" / "fragments").mkdir(parents=True)
    (folder / "lua" / "fragments" / "each.lua").write_text("-- each: mine")
    (folder / "lua" / "grow.lua").write_text(body)
    return Script(folder, "grow", item)


def test_names_are_folded_into_numbers(tmp_path: Path) -> None:
    text = _script(tmp_path, BODY).text
    assert text.startswith("#!lua\n-- each: mine\n--[[ grow: ")
    assert text.endswith("""
for i = 3, #ARGV, 2 do
  local h = redis.call('HMGET', ARGV[a], 'status', 'turn', 'given_up:a')
  return h[3], h[2], ARGV[2], ARGV[a + 1], 3
end
""")


@pytest.mark.parametrize("name", ["args.least", "item.turn", "h.fence", "fields.run"])
def test_a_name_that_is_not_declared_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"script grow: {name} is not declared"):
        assert _script(tmp_path, BODY + f"return {name}\n").text


def test_what_is_packed_is_what_the_script_reads(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"reads items of \['run', 'size'\], and is sent \[\]"):
        assert _script(tmp_path, BODY, None).text


def test_a_fragment_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="script grow uses eech: no such fragment"):
        assert _script(tmp_path, BODY.replace("uses: each", "uses: eech")).text


def test_every_script_that_starts_or_ends_a_run_writes_what_is_counted() -> None:
    writes = {name for name, script in all_scripts().items()
              if re.search(r"\b(?:finish|conclude|count_run|begin_run|cancel_run)\(", _body(script.text))}  # fmt: skip
    assert writes >= {"run_end", "run_start", "run_start_eagerly", "run_cancel", "runs_admit", "runs_dispatch"}
    for name in writes:
        assert "tell_facts(fn, now)" in _body(all_scripts()[name].text), f"{name}: tell_facts writes what it counted"
    for name, script in all_scripts().items():
        changes = re.findall(r"'(?:started|ended)', ", _body(script.text))
        is_read = "flags=no-writes" in script.text
        assert not changes or is_read or name in writes, f"{name} starts or ends runs, and counts none"


def _body(text: str) -> str:
    return text.rpartition("]]\n")[2]
