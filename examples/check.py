"""Every example's tests, from its own folder, against the installed wheel; then its types, and its criteria.

    python -m examples.check [NAME…]

Types are checked by mypy and pyright, both strict. What fails is printed whole, of the rest a line.
"""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from examples import criteria
from examples.environment import ENVIRONMENT, PYTHON, path, projects, ready

AT_ONCE = 3
"""Most of the tests' time is spent waiting for the lease of a worker that has died."""


def _mypy(project: Path) -> list[str | Path]:
    # The project is where packages begin: this tree, with its own __init__.py above, is not there for its users.
    return [
        PYTHON,
        "-m",
        "mypy",
        "--strict",
        "--explicit-package-bases",
        "--cache-dir",
        ENVIRONMENT / "mypy" / project.name,
        ".",
    ]


def _pyright(every: Sequence[Path]) -> list[str | Path]:
    """Check all projects in one run, each with its own folder as its root."""
    folders = [os.path.relpath(project, ENVIRONMENT) for project in every]
    settings = {
        "include": folders,
        "executionEnvironments": [{"root": folder} for folder in folders],
        "typeCheckingMode": "strict",
        "pythonVersion": "3.11",
    }
    config = ENVIRONMENT / "pyrightconfig.json"
    config.write_text(json.dumps(settings))
    return [PYTHON, "-m", "pyright", "--project", config, "--pythonpath", PYTHON]


def _untyped(project: Path) -> Iterator[str]:
    """Yield each handler that gets or returns Any, or says nothing: no type checker refuses what is written so."""
    for file in sorted(project.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.AsyncFunctionDef) and any(
                isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute) and one.func.attr == "function"
                for one in node.decorator_list
            ):
                told = [
                    ast.unparse(one) if one else "" for one in (*(a.annotation for a in node.args.args), node.returns)
                ]
                if any(not text or re.search(r"\bAny\b|\b(dict|list|Context)\b(?!\[)", text) for text in told):
                    yield f"{file}:{node.lineno}: {node.name}({', '.join(told[:-1])}) -> {told[-1]}"


def main(names: Sequence[str]) -> int:
    """Check the projects of some names, or all; the exit code says whether all is well."""
    ready()
    every = [project for project in projects() if not names or project.name in names]
    jobs: dict[str, tuple[Path, list[str | Path]]] = {"types, pyright": (ENVIRONMENT, _pyright(every))}
    for project in every:
        if (project / "tests").is_dir():
            jobs[f"{project.name}, tests"] = (project, [PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider"])
        jobs[f"{project.name}, types, mypy"] = (project, _mypy(project))
    environ = {**os.environ, "PATH": path()}

    def done(job: tuple[Path, list[str | Path]]) -> subprocess.CompletedProcess[str]:
        folder, command = job
        return subprocess.run(command, cwd=folder, env=environ, text=True, capture_output=True, check=False)

    untyped = [line for project in every for line in _untyped(project)]
    print("\n".join(["handlers that get or return Any:", *untyped]) if untyped else "no handler gets or returns Any")
    wrong = 1 if untyped else 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for name, result in zip(jobs, pool.map(done, jobs.values()), strict=True):
            lines = (result.stdout + result.stderr).strip().splitlines()
            print(f"{name}: {lines[-1] if lines else 'nothing said'}", flush=True)
            if result.returncode:
                wrong = 1
                print("\n".join(lines))
    return criteria.main(names) or wrong


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
