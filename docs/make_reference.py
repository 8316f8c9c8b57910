"""What the pages of docs/reference that are made from the code say."""

import ast
import importlib
import inspect
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import typer
from starlette.routing import WebSocketRoute
from typer.core import TyperArgument, TyperGroup

import stepstream
from docs.reference_tables import EXITS, ROUTES, SIZES, STORED, WAYS_OUT, Unit
from stepstream.bus import settings
from stepstream.bus.cli import announced, application
from stepstream.bus.errors import StepstreamError
from stepstream.bus.observe.signals import Signals
from stepstream.bus.values.durations import in_words
from stepstream.consumers.monitoring.counted import Counted
from stepstream.consumers.standing import Standing
from stepstream.web.api.engine.measures import COUNTERS, GAUGES
from stepstream.web.app import create_app
from stepstream.web.table.about import About

ROOT = Path(__file__).parent.parent
FLOORS = ("bus", "checkpoint", "producers", "consumers", "web")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _first(documented: Any) -> str:
    return _cell((inspect.getdoc(documented) or "").split("\n\n")[0])


def _classes() -> Iterator[type[StepstreamError]]:
    """Yield every error, a class after the one it is made of."""
    for path in sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py")):
        if "outbox" not in path.parts and path.stem != "__init__":  # an outbox needs an application's library
            importlib.import_module(".".join(("stepstream", *path.relative_to(ROOT).with_suffix("").parts)))
    rest: list[type[StepstreamError]] = [StepstreamError]
    while rest:
        one = rest.pop(0)
        if one.__module__.startswith("stepstream.") and not one.__name__.startswith("_"):
            yield one
            rest[:0] = one.__subclasses__()


def stored_names() -> set[str]:
    """Return the names that the engine itself gives to errors of runs and steps, as its source has them."""
    found: set[str] = set()
    for floor in ("checkpoint", "consumers"):
        for path in (ROOT / floor).rglob("*.py"):
            text = path.read_text()
            found |= set(re.findall(r"\b(?:Failure|ProcessError)\(\s*\"(\w+)\"", text))
            found |= set(re.findall(r"\bStepFailed\(step, \"(\w+)\"", text))
    return found


def _check(words: dict[str, str], names: set[str]) -> None:
    """End, and name it, when something has no words, or words are of something that is gone."""
    if missing := names - words.keys():
        raise SystemExit(f"no words in docs/reference_tables.py: {missing}; give it some, then run: make docs")
    if gone := words.keys() - names:
        raise SystemExit(f"words in docs/reference_tables.py for what is not there: {gone}; take them out")


def errors() -> str:
    """Return the page of all errors; one without a way out ends this, and is named."""
    classes, names = list(_classes()), stored_names()
    _check(WAYS_OUT, {one.__name__ for one in classes})
    _check(STORED, names)
    rows: list[list[str]] = []
    for one in classes:
        public = f"`{one.__name__}`" if one.__name__ in stepstream.__all__ else f"{one.__name__} (inside)"
        rows.append([public, f"`{one.code}`", str(one.status), _first(one), WAYS_OUT[one.__name__]])
    stored = [[f"`{name}`", STORED[name]] for name in sorted(names, key=str.lower)]
    exits = [[str(code), text] for code, text in EXITS.items()]
    return f"""# Every error, and the way out

For who has one in front of them. Made by `make docs` from the code.

## Exceptions

All are `StepstreamError`, from `stepstream`. `code` is stable: it is in answers of the API and in logs. The message names the field, the
value and what was expected.

{_table(["class", "`code`", "HTTP", "what", "the way out"], rows)}

## Errors of runs and steps

What your code raises is stored under the name of its class. The engine's own have these names; they are in `bus run ID`, on the run's page,
in `StepFailed.name` and in the event of `on_failure`:

{_table(["name", "the way out"], stored)}

## Exit codes

{_table(["code", "when"], exits)}
"""


_SHOWN: dict[Unit, Callable[[float], str]] = {
    "count": lambda value: f"{value:,}",
    "characters": lambda value: f"{value:,} characters",
    "bytes": lambda value: f"{value / 2**20:g} MiB" if value >= 2**20 else f"{value / 1024:g} KiB" if value >= 2048 else f"{value} B",
    "ms": in_words,
    "s": lambda value: in_words(value * 1_000),
}  # fmt: skip


def _value(constant: str) -> float:
    module, _, name = constant.partition(":")
    return getattr(importlib.import_module(f"stepstream.{module}"), name)


def sizes() -> str:
    """Return the page of all bounds, their values read from the constants."""
    text = """# Every limit in one table

For who asks "how much, how many, how long". Made by `make docs` from the constants in the code; none of them is a setting. What is one:
[settings](settings.md). What you declare for a function (concurrency, throttle, …): [limits](../limits.md).
"""
    for part, bounds in SIZES:
        rows = [[what, _SHOWN[unit](_value(constant)), above] for what, constant, unit, above in bounds]
        text += f"\n## {part}\n\n{_table(['what', 'at most', 'above it'], rows)}\n"
    return text


def _described() -> dict[str, str]:
    """Return the text below each field of Settings."""
    source = ast.parse(inspect.getsource(settings))
    body = next(node.body for node in source.body if isinstance(node, ast.ClassDef) and node.name == "Settings")
    found: dict[str, str] = {}
    for field, below in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(field.target, ast.Name):
            assert isinstance(below.value, ast.Constant)
            found[field.target.id] = str(below.value.value)
    return found


def _default(field: str) -> str:
    value = getattr(settings.Settings(), field)
    if field.endswith("_ms"):
        return in_words(value)
    if isinstance(value, tuple):
        return f"`{','.join(value)}`" if value else "none"
    return f"`{value}`" if value not in ("", None) else "none"


def settings_page() -> str:
    """Return the page of all BUS_… variables."""
    described = _described()
    rows = [
        [f"`{variable}`", _default(field), _cell(described[field])]
        for variable, (field, _) in settings.VARIABLES.items()
    ]
    return f"""# Settings

For who starts a process. Every one is a variable of the environment, read once at the start; made by `make docs` from `bus/settings.py`.
Durations are seconds, or "1m30s". A value that makes no sense stops the process, and the message names the variable. Names that Kubernetes
injects for a Service called `bus` are ignored; other unknown `BUS_…` names are warned of (`bus worker --strict`: refused).

{_table(["variable", "default", "what"], rows)}
"""


def _option(parameter: Any) -> list[str]:
    help_text = _cell(parameter.help or "")
    if isinstance(parameter, TyperArgument):
        return [f"`{parameter.metavar or (parameter.name or '').upper()}`", help_text]
    default = parameter.default
    shown = f" Default: `{default}`." if default not in (None, False, 0, "") and not callable(default) else ""
    return [", ".join(f"`{name}`" for name in parameter.opts), help_text + shown]


def commands() -> str:
    """Return the page of the command line."""
    group = typer.main.get_command(application(*announced()))
    assert isinstance(group, TyperGroup)
    text = """# The command line

For who types. `bus COMMAND --help` says the same; made by `make docs` from it. Which server: `BUS_REDIS_URL`, else that of the `bus dev` which
runs in this folder or one above it. Exit codes: [errors](errors.md#exit-codes).
"""
    for name, command in group.commands.items():
        shown = [one for one in command.params if not getattr(one, "hidden", False) and one.name != "help"]
        help_text = re.sub(r"\n(?!\n)", " ", inspect.cleandoc(command.help or "")).replace("\n ", "\n\n")
        text += f"\n## bus {name}\n\n{help_text.strip()}\n"
        if shown:
            text += f"\n{_table(['argument', 'what'], [_option(one) for one in shown])}\n"
    return text


def _takes(about: About) -> str:
    """Return which parameters a route takes, for the end of its line."""
    names = ", ".join(f"`{one.name}`" for one in about.query or ())
    return f" Parameters: {names}." if names else ""


def routes() -> str:
    """Return the page of all routes of the site: the API's say what they are themselves."""
    found: list[tuple[str, list[str]]] = []
    own: dict[str, str] = {}
    for route in create_app().routes:
        path = str(getattr(route, "path", ""))
        has = {"WebSocket"} if isinstance(route, WebSocketRoute) else set(getattr(route, "methods", None) or {"GET"})
        methods = " ".join(sorted(has - {"HEAD"}))
        about = getattr(route, "about", None)
        key = f"{methods} {path}" if about is not None or f"{methods} {path}" in ROUTES else path
        if about is not None:
            own[key] = about.summary + _takes(about)
        shown = path.replace(":path}", "}")
        found.append((key, [methods, f"`{shown}`", str(getattr(route, "needs", "nothing"))]))
    _check(ROUTES, {key for key, _ in found} - own.keys())
    rows = [[*row, own[key] if key in own else ROUTES[key]] for key, row in found]
    return f"""# Every route

For who calls the site. Made by `make docs` from its routes; `GET /openapi.json` tells programs the same of the API. Bodies and answers are JSON; what is accepted, which host names, errors and paging: [HTTP](../http.md).
`needs` says what a caller does, and so which key opens it in keys mode ([HTTP](../http.md#keys)). An endpoint of your application (`/api/inngest`):
[HTTP](../http.md#the-endpoint-of-an-application).

{_table(["method", "path", "needs", "what"], rows)}
"""


def metrics() -> str:
    """Return the page of all metrics, of a site and of a worker."""
    site = [
        [f"`stepstream_{name}`", "gauge", _labels(labels), _cell(words)] for name, (words, labels) in GAUGES.items()
    ]
    site += [[f"`stepstream_{name}_total`", "counter", "", _cell(words)] for name, words in COUNTERS.items()]
    counted = Counted(Signals(), lambda: Standing(0, 0, 0, ""))
    worker = [[f"`{one.name}`", one.kind, _labels(one.labels), _cell(one.words)] for one in counted.described]
    head = ["metric", "kind", "labels", "what"]
    return f"""# Every metric

For who asks Prometheus. Made by `make docs` from the code. What to do with them, a board and alert rules: [monitoring](../monitoring.md). A histogram is asked for as `…_bucket`, `…_sum` and `…_count`.

## Of a site

`GET /metrics` of `bus serve`. The gauges are of the whole store, so each site tells the same; the counters are the process's own.

{_table(head, site)}

## Of a worker

`GET /metrics` at `bus worker --metrics-port`. All are of this process, and begin at zero with it. Beside them are `process_cpu_seconds_total`, `process_resident_memory_bytes`, `process_open_fds` and the like, on Linux.

{_table(head, worker)}
"""


def _labels(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


PAGES: dict[str, Callable[[], str]] = {
    "errors.md": errors,
    "sizes.md": sizes,
    "settings.md": settings_page,
    "commands.md": commands,
    "routes.md": routes,
    "metrics.md": metrics,
}
