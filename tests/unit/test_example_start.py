"""make example-NAME: all its processes end with it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import PATIENT_S

ROOT = Path(__file__).parents[2]
RUNS = """
import sys
from pathlib import Path
from examples.start import run
sleeps = f"{sys.executable} -c 'import os, time; print(os.getpid(), flush=True); time.sleep(60)'"
ends = f"{sys.executable} -c 'raise SystemExit(3)'"
sys.exit(run([sleeps] if sys.argv[1] == "sleeps" else [sleeps, ends], Path.cwd()))
"""


@pytest.mark.process
@pytest.mark.parametrize(("what", "code"), [("sleeps", 0), ("ends", 3)])
def test_no_process_is_left_when_one_asks_or_one_ends(what: str, code: int) -> None:
    """A shell around each command died in its place: after Ctrl-C bus dev and uvicorn kept their ports."""
    with subprocess.Popen([sys.executable, "-c", RUNS, what], cwd=ROOT, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        child = int(started.stdout.readline() or 0)
        if what == "sleeps":
            started.send_signal(signal.SIGINT)
        assert started.wait(PATIENT_S) == code
    if child:  # the other may have ended before this one said who it is
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)
