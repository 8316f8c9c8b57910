"""Which test shows which criterion: `python -m examples.criteria [NAME…]` prints a table of each example.

An example's criteria.toml lists what it must do; a test carries `@pytest.mark.criterion("name", …)`. A criterion that
no test shows, and a test that names one that is not there, are errors.
"""

import ast
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from examples.environment import projects


def shown(project: Path) -> Iterator[tuple[str, str]]:
    """Yield each criterion that a test names, and the test."""
    for path in sorted((project / "tests").rglob("test_*.py")):
        for test in ast.walk(ast.parse(path.read_text())):
            if isinstance(test, ast.FunctionDef | ast.AsyncFunctionDef) and test.name.startswith("test_"):
                for mark in test.decorator_list:
                    if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.criterion":
                        names = [one.value for one in mark.args if isinstance(one, ast.Constant)]
                        yield from ((str(name), f"{path.relative_to(project)}::{test.name}") for name in names)


def table(project: Path) -> tuple[list[str], list[str]]:
    """Return the lines of a project's table, and what is wrong with it."""
    criteria: dict[str, str] = tomllib.loads((project / "criteria.toml").read_text())["criteria"]
    tests: dict[str, list[str]] = {name: [] for name in criteria}
    wrong: list[str] = []
    for name, test in shown(project):
        if name in tests:
            tests[name].append(test)
        else:
            wrong.append(f"{project.name}: {test} shows '{name}', which criteria.toml does not have")
    wrong += [f"{project.name}: no test shows '{name}': {criteria[name]}" for name, found in tests.items() if not found]
    lines = [f"## {project.name}", "", "| criterion | shown by |", "|---|---|"]
    lines += [f"| {criteria[name]} | {'<br>'.join(f'`{test}`' for test in found)} |" for name, found in tests.items()]
    return lines, wrong


def main(names: Sequence[str]) -> int:
    """Print the tables; the exit code says whether every criterion has its test."""
    faults: list[str] = []
    for project in projects():
        if (project / "criteria.toml").exists() and (not names or project.name in names):
            lines, wrong = table(project)
            print("\n".join(lines), end="\n\n")
            faults += wrong
    for line in faults:
        print(line, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
