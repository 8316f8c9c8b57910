"""Start `bus dev` and applications of the official SDKs, until Ctrl-C, or until one ends.

    python -m examples.sdk.start [NAME]   # make example-sdk, or make example-sdk-plushify: one of examples/sdk/apps

Each is an ordinary project of its language: INNGEST_DEV is all that points it here.
"""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from examples.sdk import projects
from examples.start import run

HERE = Path(__file__).parent
BUILD = HERE.parent.parent / "build" / "example-sdk"
FILES = ("package.json", "package-lock.json", "app.ts")


def main(name: str = "") -> int:
    """Install what is missing, and run all three, or one of examples/sdk/apps."""
    if name:
        return _one(name)
    if shutil.which("npm") is None:
        raise SystemExit("examples/sdk/typescript needs Node.js 20 or newer with npm, which is not on this machine")
    port, node, python = (int(os.environ.get(name, default)) for name, default in
                          (("PORT", "8288"), ("NODE_PORT", "3000"), ("PYTHON_PORT", "8000")))  # fmt: skip
    typescript, environment = _typescript(), _python()
    (BUILD / "bus").mkdir(exist_ok=True)
    os.environ["INNGEST_DEV"] = f"http://127.0.0.1:{port}"
    urls = [f"http://127.0.0.1:{one}/api/inngest" for one in (node, python)]
    print(f"examples/sdk: http://127.0.0.1:{port}; README.md there says what to send. Ctrl-C ends it", flush=True)
    return run(
        [
            f"{sys.executable} -m stepstream dev --port {port} -u {urls[0]} -u {urls[1]}",
            f"env PORT={node} {typescript / 'node_modules/.bin/tsx'} {typescript / 'app.ts'}",
            f"{environment / 'bin/uvicorn'} app:app --app-dir {HERE / 'python'} --port {python} --log-level warning",
        ],
        BUILD / "bus",
    )


def _one(name: str) -> int:
    """Run `bus dev`, an application of examples/sdk/apps, and what stands in for the outside world."""
    if name not in projects.names():
        raise SystemExit(f"there is no application {name!r}; there are {', '.join(projects.names())}")
    port, node, outside = (int(os.environ.get(one, default)) for one, default in
                           (("PORT", "8288"), ("NODE_PORT", "3000"), ("STAND_INS_PORT", "8290")))  # fmt: skip
    project, folder = projects.ready() / name, BUILD / name
    folder.mkdir(parents=True, exist_ok=True)
    told = folder / "stand-ins.json"
    if not told.exists():
        told.write_text("{}")
    os.environ["STAND_INS"] = str(told)
    os.environ["PYTHONPATH"] = str(HERE.parent / "stand-ins")
    environ = (
        f"INNGEST_DEV=http://127.0.0.1:{port} STAND_INS_URL=http://127.0.0.1:{outside} DATA_FOLDER={folder / 'data'}"
    )
    print(f"examples/sdk/apps/{name}: http://127.0.0.1:{node}, its runs: http://127.0.0.1:{port}")
    print(f"examples/README.md says what {told} may have. Ctrl-C ends it", flush=True)
    return run(
        [
            f"{sys.executable} -m stepstream dev --port {port} -u http://127.0.0.1:{node}/api/inngest",
            f"env -C {project} {environ} PORT={node} node --import tsx src/main.ts",
            f"{sys.executable} -m uvicorn --factory stand_ins.web:site --port {outside} --log-level warning",
        ],
        folder,
    )


def _typescript() -> Path:
    """Return where the TypeScript project is installed, as its lock file says."""
    folder, lock = BUILD / "typescript", "package-lock.json"
    stands = folder / lock
    is_there = stands.exists() and stands.read_bytes() == (HERE / "typescript" / lock).read_bytes()
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copy(HERE / "typescript" / name, folder)
    if not (is_there and (folder / ".installed").exists()):
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--prefer-offline"], cwd=folder, check=True)
        (folder / ".installed").touch()
    return folder


def _python() -> Path:
    """Return an environment of the Python project's own."""
    folder, wanted = BUILD / "python", HERE / "python" / "requirements.txt"
    stamp = folder / ".installed"
    if not (stamp.exists() and stamp.read_bytes() == wanted.read_bytes()):
        venv.create(folder, with_pip=True)
        pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", str(wanted)], check=True)
        stamp.write_bytes(wanted.read_bytes())
    return folder


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
