"""Start `bus dev` and two applications of the official SDKs: `make example-sdk`, until Ctrl-C, or until one ends.

Each is an ordinary project of its language: INNGEST_DEV is all that points it here.
"""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from examples.start import run

HERE = Path(__file__).parent
BUILD = HERE.parent.parent / "build" / "example-sdk"
FILES = ("package.json", "package-lock.json", "app.ts")


def main() -> int:
    """Install what is missing, and run all three."""
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
    sys.exit(main())
