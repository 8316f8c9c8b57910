"""The environment the example projects share: the wheel of this tree, and the projects beside it, as a user has them.

    python -m examples.environment        # makes build/examples, or brings it up to date

The wheel is made anew when a file of ours has changed, the rest when a pyproject.toml has.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
ENVIRONMENT = ROOT / "build/examples"
PYTHON = ENVIRONMENT / "bin/python"
SOURCES = ("stepstream", "bus", "checkpoint", "producers", "consumers", "web")


def projects() -> list[Path]:
    """Return the folders of the example projects, what stands in for the world among them."""
    return sorted(path.parent for path in HERE.glob("*/pyproject.toml"))


def path() -> str:
    """Return a PATH on which the environment's commands come first."""
    return f"{PYTHON.parent}{os.pathsep}{os.environ['PATH']}"


def ready() -> None:
    """Make the environment, or bring it up to date."""
    requirements = _digest([ROOT / "pyproject.toml", *(project / "pyproject.toml" for project in projects())])
    ours = _digest([one for name in SOURCES for one in (ROOT / name).rglob("*") if _counts(one)])
    stamp = ENVIRONMENT / "stamp"
    made_of = stamp.read_text().split() if stamp.exists() else []
    if made_of == [requirements, ours]:
        return
    sys.stderr.write(f"setting up {ENVIRONMENT.relative_to(ROOT)} …\n")
    stamp.unlink(missing_ok=True)  # what is broken off half-way is begun anew
    if not made_of:
        subprocess.run([sys.executable, "-m", "venv", "--clear", ENVIRONMENT], check=True)
        _pip("install", "setuptools>=77", "wheel")  # once, not for each project in an environment of its own
    with tempfile.TemporaryDirectory() as folder:
        wheel = _wheel(Path(folder))
        _pip("install", "--force-reinstall", "--no-deps", str(wheel))
        if made_of[:1] != [requirements]:
            stand_ins = ["--editable", str(HERE / "stand-ins")]
            each = [word for project in projects() for word in ("--editable", f"{project}[dev]")]
            _pip("install", "--no-build-isolation", f"stepstream[dev] @ {wheel.as_uri()}", *stand_ins)
            _pip("install", "--no-build-isolation", *each)
    stamp.write_text(f"{requirements} {ours}\n")


def _wheel(folder: Path) -> Path:
    """Build the wheel from a source distribution, and that in a copy of the tree: a build writes into its tree."""
    tree = folder / "tree"
    for name in SOURCES:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tree)
    build = "import setuptools.build_meta; setuptools.build_meta.build_sdist('..')"
    subprocess.run([PYTHON, "-c", build], cwd=tree, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    source = next(folder.glob("*.tar.gz"))
    _pip("wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", str(folder), str(source))
    return next(folder.glob("*.whl"))


def _pip(command: str, *words: str) -> None:
    done = subprocess.run(
        [PYTHON, "-m", "pip", command, "--quiet", "--disable-pip-version-check", *words],
        text=True, capture_output=True, check=False, cwd=ENVIRONMENT,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"pip {command} failed:\n{done.stdout}{done.stderr}")


def _counts(one: Path) -> bool:
    return one.is_file() and one.parent.name != "__pycache__"


def _digest(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for one in sorted(paths):
        digest.update(f"{one} {one.stat().st_size}\n".encode() + one.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    ready()
