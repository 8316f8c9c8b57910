"""promtool, of Debian's package prometheus, where it is installed; PROMTOOL names one that lies elsewhere."""

import os
import shutil
import subprocess

PROMTOOL = os.environ.get("PROMTOOL") or shutil.which("promtool")
MISSING = (
    "NOT RUN: no promtool on this machine, so no alert rule was tried (apt install prometheus, or PROMTOOL=its path)"
)


def promtool(*words: str, given: str = "") -> str:
    """Run it; return what it says. AssertionError, with that, when it finds something wrong."""
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *words], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
