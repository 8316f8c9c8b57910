"""Schemathesis, in an environment of its own: it wants another jsonschema-rs than ours.

`python -m tests.openapi.environment` installs it; `make api` does.
"""

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "requirements.txt"
"""Exactly these, so that the same seed makes the same requests."""
HOME = Path(__file__).parent.parent.parent / "build" / "openapi"
COMMAND = HOME / "bin" / "st"


def install() -> None:
    """Install it, unless exactly this is."""
    stamp = HOME / f".installed-{hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]}"
    if stamp.exists():
        return
    venv.create(HOME, with_pip=True, clear=True)
    pip = (str(HOME / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    subprocess.run([*pip, "-r", str(REQUIREMENTS)], check=True, stdout=sys.stderr)
    stamp.touch()


if __name__ == "__main__":
    install()
