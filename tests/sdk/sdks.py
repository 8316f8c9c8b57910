"""The official SDKs that tests/sdk runs against the bus, each installed into build/sdk from its lock file.

`python -m tests.sdk.sdks` installs what is missing. Without node and npm only the Python SDK is tried, and said so.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
HOME = HERE.parent.parent / "build" / "sdk"
NODE_SDKS = ("v3.46.0", "v3.54.2", "v4.24.0")
SDKS = (*NODE_SDKS, "py")
HAS_NODE = shutil.which("node") is not None and shutil.which("npm") is not None
NOT_RUN = "NOT RUN: no node or npm on this machine, so the TypeScript SDKs were not tried (install Node.js 20 or newer with npm)"


def home(sdk: str) -> Path:
    """Return where an SDK is installed."""
    return HOME / sdk


def missing(sdk: str) -> str:
    """Return why an SDK cannot be tried; "" when it can."""
    if sdk in NODE_SDKS and not HAS_NODE:
        return NOT_RUN
    return "" if _stamp(sdk).exists() else f"{sdk} is not installed: make sdk"


def install(sdk: str) -> None:
    """Install an SDK as its lock file says, unless that has been done."""
    if _stamp(sdk).exists():
        return
    folder = home(sdk)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if sdk in NODE_SDKS:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(_source(sdk) / name, folder)
        _run("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline", cwd=folder)
    else:
        venv.create(folder, with_pip=True)
        pip = (folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        _run(*map(str, pip), "-r", str(_source(sdk) / "requirements.txt"), cwd=folder)
    _stamp(sdk).touch()


def _run(*command: str, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")


def _source(sdk: str) -> Path:
    return HERE / "js" / sdk if sdk in NODE_SDKS else HERE / "py"


def _stamp(sdk: str) -> Path:
    """A file that is there when exactly this has been installed."""
    locked = _source(sdk) / ("package-lock.json" if sdk in NODE_SDKS else "requirements.txt")
    return home(sdk) / f".installed-{hashlib.sha256(locked.read_bytes()).hexdigest()[:12]}"


def main() -> None:
    """Install all."""
    wanted = [sdk for sdk in SDKS if sdk not in NODE_SDKS or HAS_NODE]
    if not HAS_NODE:
        print(f"\n{NOT_RUN}\n", file=sys.stderr)
    with ThreadPoolExecutor(min(len(wanted), os.cpu_count() or 1)) as pool:
        list(pool.map(install, wanted))


if __name__ == "__main__":
    main()
