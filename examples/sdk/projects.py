"""The TypeScript projects of examples/sdk/apps, installed with one `npm ci` for all into build/sdk/apps.

python -m examples.sdk.projects       # installs them, or brings what is there up to date
"""

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).parent / "apps"
HOME = SOURCE.parent.parent.parent / "build" / "sdk" / "apps"


def names() -> list[str]:
    """Return the applications: what else is there, has no criteria."""
    return sorted(one.parent.name for one in SOURCE.glob("*/criteria.toml"))


def missing() -> str:
    """Return why the projects cannot be started; "" when they can."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "NOT RUN: no node or npm on this machine (install Node.js 20 or newer with npm)"
    return "" if _stamp().exists() else "examples/sdk/apps is not installed: python -m examples.sdk.projects"


def ready(*, installs: bool = True) -> Path:
    """Copy what has changed, have npm install what the lock file says, and return the folder of the projects."""
    if shutil.which("npm") is None:
        raise SystemExit("examples/sdk/apps needs Node.js 20 or newer with npm, which is not on this machine")
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for source in SOURCE.rglob("*"):
            copy = HOME / source.relative_to(SOURCE)
            if source.is_file() and not (copy.exists() and copy.read_bytes() == source.read_bytes()):
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, copy)
        if installs and not _stamp().exists():
            subprocess.run(
                ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"], cwd=HOME, check=True
            )
            _stamp().touch()
    return HOME


def _stamp() -> Path:
    """A file that is there when exactly this has been installed."""
    return HOME / f".installed-{hashlib.sha256((SOURCE / 'package-lock.json').read_bytes()).hexdigest()[:12]}"


if __name__ == "__main__":
    ready()
