"""Which test shows which criterion: `python -m examples.criteria [NAME…]` prints a table of each example.

An example's criteria.toml lists what it must do; a test carries `@pytest.mark.criterion("name", …)`. A criterion that
no test shows, and a test that names one that is not there, are errors. The tests of a project in Python are its own,
those of one in examples/sdk/apps stand in tests/sdk/apps.
"""

import ast
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from examples.environment import HERE, ROOT, projects

SDK_APPS = HERE / "sdk" / "apps"


def every() -> dict[Path, list[Path]]:
    """Return the projects that have criteria, each with the files of its tests."""
    found = {one: sorted((one / "tests").rglob("test_*.py")) for one in projects() if _lists(one).exists()}
    for criteria in sorted(SDK_APPS.glob("*/criteria.toml")):
        name = criteria.parent.name.replace("-", "_")
        found[criteria.parent] = sorted((ROOT / "tests/sdk/apps").glob(f"test_{name}*.py"))
    return found


def shown(project: Path, files: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Yield each criterion that a test names, and the test."""
    for path in files:
        for test in ast.walk(ast.parse(path.read_text())):
            if isinstance(test, ast.FunctionDef | ast.AsyncFunctionDef) and test.name.startswith("test_"):
                for mark in test.decorator_list:
                    if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.criterion":
                        names = [one.value for one in mark.args if isinstance(one, ast.Constant)]
                        shows = path.relative_to(project if path.is_relative_to(project) else ROOT)
                        yield from ((str(name), f"{shows}::{test.name}") for name in names)


def table(project: Path, files: Sequence[Path]) -> tuple[list[str], list[str]]:
    """Return the lines of a project's table, and what is wrong with it."""
    criteria: dict[str, str] = tomllib.loads(_lists(project).read_text())["criteria"]
    tests: dict[str, list[str]] = {name: [] for name in criteria}
    wrong: list[str] = []
    for name, test in shown(project, files):
        if name in tests:
            tests[name].append(test)
        else:
            wrong.append(f"{_title(project)}: {test} shows '{name}', which criteria.toml does not have")
    wrong += [
        f"{_title(project)}: no test shows '{name}': {criteria[name]}" for name, found in tests.items() if not found
    ]
    lines = [f"## {_title(project)}", "", "| criterion | shown by |", "|---|---|"]
    lines += [f"| {criteria[name]} | {'<br>'.join(f'`{test}`' for test in found)} |" for name, found in tests.items()]
    return lines, wrong


def _lists(project: Path) -> Path:
    return project / "criteria.toml"


def _title(project: Path) -> str:
    return f"{project.name}, TypeScript" if project.parent == SDK_APPS else project.name


def main(names: Sequence[str]) -> int:
    """Print the tables; the exit code says whether every criterion has its test."""
    faults: list[str] = []
    for project, files in every().items():
        if not names or project.name in names:
            lines, wrong = table(project, files)
            print("\n".join(lines), end="\n\n")
            faults += wrong
    for line in faults:
        print(line, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
