"""What type checkers say of users' code: pyright and mypy, both strict, against the tree as it is installed.

`# E` ends a line where an error must be, and only such a line (`# E pyright`: mypy does not see it); `# R: type` says
what reveal_type must tell there.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.check
HERE = Path(__file__).parent
ROOT = HERE.parent.parent
LINKS = ROOT / "build/links"
CASES = sorted(path for path in HERE.glob("*.py") if not path.name.startswith("test_"))
Said = dict[tuple[str, int], list[tuple[str, str]]]
"""By file and line: what was said there, as (error or note, text)."""


def pyright(tmp_path: Path) -> Said:
    (tmp_path / "pyrightconfig.json").write_text(
        json.dumps(
            {
                "extraPaths": [str(LINKS)],
                "typeCheckingMode": "strict",
                "pythonVersion": "3.11",
                "venvPath": str(ROOT),
                "venv": ".venv",
                "reportUnusedFunction": False,
            }
        )
    )
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", *map(str, CASES)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    said: Said = {}
    for one in json.loads(done.stdout)["generalDiagnostics"]:
        place = (Path(one["file"]).name, one["range"]["start"]["line"] + 1)
        said.setdefault(place, []).append(("note" if one["severity"] == "information" else "error", one["message"]))
    return said


def mypy(tmp_path: Path) -> Said:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--python-version", "3.11", "--follow-imports", "silent",
         "--disable-error-code", "type-arg", "--cache-dir", str(ROOT / "build/mypy"), *map(str, CASES)],
        capture_output=True, text=True, check=False, env={"MYPYPATH": str(LINKS), "PATH": ""}, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    said: Said = {}
    for path, line, kind, text in re.findall(r"^(.+?):(\d+): (error|note): (.+)$", done.stdout, re.MULTILINE):
        said.setdefault((Path(path).name, int(line)), []).append((kind, text))
    return said


def _plain(text: str) -> str:
    """A type without what each checker adds to its names."""
    return re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", text)


@pytest.mark.parametrize("checker", [pyright, mypy])
def test_users_code_is_checked(checker: Callable[[Path], Said], tmp_path: Path) -> None:
    said = checker(tmp_path)
    wrong: list[str] = []
    for path in CASES:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            here = said.get((path.name, number), [])
            errors = [text for kind, text in here if kind == "error"]
            notes = [_plain(text) for kind, text in here if kind == "note"]
            where = f"{path.name}:{number}"
            is_wrong = line.endswith(("# E", f"# E {checker.__name__}"))
            if is_wrong != bool(errors):
                wrong.append(f"{where}: {'no error' if is_wrong else errors}")
            revealed = line.partition("# R: ")[2]
            if revealed and not any(text.endswith(f'is "{revealed}"') for text in notes):
                wrong.append(f"{where}: {notes}")
    assert not wrong, "\n".join(wrong)
